#include "planning/planner.h"

#include <cmath>

#include "planning/parts.h"
#include "planning/simulation.h"

namespace sdcpp {
namespace {

using planning::Instance;

constexpr uint64_t max_bytes = 2 * ample_budget;
constexpr size_t max_stages = 10000;
constexpr int max_microbatches = 1024;

void check(const std::vector<PlanStage>& stages, const PlanOptions& options) {
    if (stages.empty() || stages.size() > max_stages) throw std::invalid_argument("a plan takes 1 to 10000 stages");
    if (options.budget_bytes > max_bytes) throw std::invalid_argument("budget_bytes must be at most 2^50");
    if (!(options.link_bytes_per_s > 0) || !std::isfinite(options.link_bytes_per_s))
        throw std::invalid_argument("link_bytes_per_s must be above 0");
    if (!(options.dispatch_seconds >= 0) || !std::isfinite(options.dispatch_seconds))
        throw std::invalid_argument("dispatch_seconds must be 0 or more");
    if (options.microbatches < 1 || options.microbatches > max_microbatches)
        throw std::invalid_argument("microbatches must be 1 to 1024");
    for (const PlanStage& stage : stages) {
        for (const uint64_t bytes :
             {stage.param_bytes, stage.compute_bytes, stage.carry_in_bytes, stage.carry_out_bytes, stage.extra_bytes})
            if (bytes > max_bytes / 4)
                throw std::invalid_argument("stage " + stage.name + ": sizes must be at most 2^48");
        uint64_t sum = 0;
        for (const uint64_t part : stage.parts) sum += std::min(part, max_bytes);
        if (!stage.parts.empty() && sum != stage.param_bytes)
            throw std::invalid_argument("stage " + stage.name + ": parts must add up to param_bytes");
        if (!(stage.seconds >= 0) || !std::isfinite(stage.seconds))
            throw std::invalid_argument("stage " + stage.name + ": seconds must be 0 or more");
    }
}

Order order_of(Policy policy) {
    if (policy == Policy::pipelined) return Order::continuous;
    return policy == Policy::capped_prefetch ? Order::one_ahead : Order::in_series;
}

double simulate(const Instance& instance, const Plan& plan, Timeline* times) {
    std::vector<Work> works;
    std::vector<Upload> uploads;
    const double graphs = static_cast<double>(plan.together) / plan.group;
    for (const PlannedSegment& s : plan.segments)
        works.push_back(
            {instance.seconds(s.first, s.last) * plan.together + graphs * instance.options.dispatch_seconds, 0});
    for (const PlannedPiece& piece : plan.pieces) {
        ++works[piece.segment].uploads;
        uploads.push_back({static_cast<double>(piece.bytes) / instance.options.link_bytes_per_s, piece.after});
    }
    return Simulation().steady_seconds(works, uploads, order_of(plan.policy), {}, times);
}

std::string mib(uint64_t bytes) {
    const double value = static_cast<double>(bytes) / (1 << 20);
    std::string text = std::to_string(std::ceil(value * 10) / 10);
    return text.substr(0, text.find('.') + 2) + " MiB";
}

[[noreturn]] void over_budget(const Instance& instance, Policy policy) {
    uint64_t least = planning::least_for_merged(instance);
    if (policy == Policy::pipelined) least = planning::least_for_pipelined(instance);
    if (policy == Policy::automatic) least = std::min(least, planning::least_for_pipelined(instance));
    fail_over_budget(instance.stages, instance.options, least + instance.options.reserved_bytes);
}

}  // namespace

void fail_over_budget(const std::vector<PlanStage>& stages, const PlanOptions& options, uint64_t least_bytes) {
    const uint64_t reserved = options.reserved_bytes;
    size_t worst = 0;
    const auto need = [&](size_t i) {
        const PlanStage& s = stages[i];
        return s.param_bytes + s.compute_bytes + s.carry_in_bytes + s.carry_out_bytes;
    };
    for (size_t i = 1; i < stages.size(); ++i)
        if (need(i) > need(worst)) worst = i;
    const PlanStage& stage = stages[worst];
    const bool by_weights = stage.param_bytes > need(worst) / 2;
    std::string enough = std::to_string(std::ceil(static_cast<double>(least_bytes) / (1 << 30) * 1000) / 1000);
    enough.resize(enough.find('.') + 4);
    throw OverBudget(
        (reserved > 0 ? "the budget" : "a budget of " + mib(options.budget_bytes)) + " is too small: stage " +
            stage.name + " alone takes " + mib(need(worst)) + " (" + mib(stage.param_bytes) +
            " of weights, the rest for computing)" +
            (reserved > 0 ? " in addition to the " + mib(reserved) + " of the process itself" : "") +
            "; option max_vram=" + enough + " (GiB) is enough; " +
            (by_weights ? "a coarser wtype such as q8_0 lowers it"
                        : "a smaller picture, fewer pictures at once or (for the decoder) VAE tiling lowers it"),
        worst, least_bytes, "max_vram=" + enough);
}

const char* policy_name(Policy policy) {
    switch (policy) {
        case Policy::automatic:
            return "auto";
        case Policy::full:
            return "full";
        case Policy::capped:
            return "capped";
        case Policy::capped_prefetch:
            return "capped+prefetch";
        case Policy::pipelined:
            break;
    }
    return "pipelined";
}

Plan make_plan(const std::vector<PlanStage>& stages, const PlanOptions& options) {
    check(stages, options);
    const Instance instance{stages, options};
    const double limit = planning::limit_of(instance);
    std::optional<Plan> best;
    const auto consider = [&](std::optional<Plan> plan) {
        if (!plan) return;
        plan->predicted_step_seconds = predicted_seconds(stages, options, *plan);
        plan->limit_step_seconds = limit;
        if (!best || plan->predicted_step_seconds < best->predicted_step_seconds * 0.999) best = std::move(plan);
    };
    const bool any = options.policy == Policy::automatic;
    if (any || options.policy == Policy::pipelined) consider(planning::pipelined_plan(instance));
    for (const Policy policy : {Policy::capped, Policy::full})
        if (any || options.policy == policy) consider(planning::merged_plan(instance, policy));
    if (options.policy == Policy::capped_prefetch) consider(planning::merged_plan(instance, options.policy));
    if (!best) over_budget(instance, options.policy);
    return *best;
}

double predicted_seconds(const std::vector<PlanStage>& stages, const PlanOptions& options, const Plan& plan) {
    return plan.passes * simulate({stages, options}, plan, nullptr);
}

double limit_seconds(const std::vector<PlanStage>& stages, const PlanOptions& options) {
    return planning::limit_of({stages, options});
}

Timeline timeline(const std::vector<PlanStage>& stages, const PlanOptions& options, const Plan& plan) {
    Timeline times;
    simulate({stages, options}, plan, &times);
    return times;
}

}  // namespace sdcpp
