#include "runtime/planner.h"

#include <cmath>
#include <limits>

#include "runtime/plan_parts.h"
#include "runtime/plan_simulation.h"

namespace sdcpp {
namespace {

using planning::Instance;

constexpr uint64_t most_bytes = uint64_t{1} << 50;
constexpr size_t most_stages = 10000;
constexpr int most_microbatches = 1024;

void check(const std::vector<PlanStage>& stages, const PlanOptions& options) {
    if (stages.empty() || stages.size() > most_stages) throw std::invalid_argument("a plan takes 1 to 10000 stages");
    if (options.budget_bytes > most_bytes) throw std::invalid_argument("budget_bytes must be at most 2^50");
    if (!(options.link_bytes_per_s > 0) || !std::isfinite(options.link_bytes_per_s))
        throw std::invalid_argument("link_bytes_per_s must be above 0");
    if (!(options.dispatch_seconds >= 0) || !std::isfinite(options.dispatch_seconds))
        throw std::invalid_argument("dispatch_seconds must be 0 or more");
    if (options.microbatches < 1 || options.microbatches > most_microbatches)
        throw std::invalid_argument("microbatches must be 1 to 1024");
    for (const PlanStage& stage : stages) {
        for (const uint64_t bytes :
             {stage.param_bytes, stage.compute_bytes, stage.carry_in_bytes, stage.carry_out_bytes, stage.extra_bytes})
            if (bytes > most_bytes / 4)
                throw std::invalid_argument("stage " + stage.name + ": sizes must be at most 2^48");
        if (!(stage.seconds >= 0) || !std::isfinite(stage.seconds))
            throw std::invalid_argument("stage " + stage.name + ": seconds must be 0 or more");
    }
}

// Computing everything, or uploading what can never be resident: beside it lie at least the workspace, the values
// carried and a slot for the smallest stage.
double limit_seconds(const Instance& instance) {
    const PlanOptions& options = instance.options;
    const double compute = instance.seconds(0, instance.count() - 1) * options.microbatches;
    if (options.budget_bytes == 0) return compute;
    uint64_t params = 0, reserve = 0, slot = std::numeric_limits<uint64_t>::max();
    for (size_t i = 0; i < instance.count(); ++i) {
        const PlanStage& stage = instance.stages[i];
        params += stage.param_bytes;
        reserve = std::max(reserve, stage.compute_bytes + stage.carry_in_bytes + stage.carry_out_bytes);
        if (stage.param_bytes > 0) slot = std::min(slot, stage.param_bytes);
    }
    const auto whole = instance.extent(0, instance.count() - 1);
    const uint64_t beside = std::min(reserve, whole.compute + whole.carry_in + whole.carry_out);
    if (params + beside <= options.budget_bytes) return compute;
    const uint64_t room = options.budget_bytes > reserve + slot ? options.budget_bytes - reserve - slot : 0;
    const uint64_t streamed = params > room ? params - room : 0;
    return std::max(compute, static_cast<double>(streamed) / options.link_bytes_per_s);
}

Uploads uploads_of(Policy policy) {
    if (policy == Policy::pipelined) return Uploads::continuous;
    return policy == Policy::capped_prefetch ? Uploads::one_ahead : Uploads::in_series;
}

std::vector<Work> works_of(const Instance& instance, const Plan& plan) {
    std::vector<Work> works;
    const double graphs = static_cast<double>(plan.together) / plan.group;
    for (const PlannedSegment& s : plan.segments)
        works.push_back({instance.seconds(s.first, s.last) * plan.together + graphs * instance.options.dispatch_seconds,
                         s.streamed_bytes, s.slot});
    return works;
}

void predict(const Instance& instance, Plan& plan) {
    plan.predicted_step_seconds = predicted_seconds(instance.stages, instance.options, plan);
    plan.limit_step_seconds = limit_seconds(instance);
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
    size_t worst = 0;
    const auto need = [&](size_t i) {
        const PlanStage& s = instance.stages[i];
        return s.param_bytes + s.compute_bytes + s.carry_in_bytes + s.carry_out_bytes;
    };
    for (size_t i = 1; i < instance.count(); ++i)
        if (need(i) > need(worst)) worst = i;
    const PlanStage& stage = instance.stages[worst];
    const bool by_weights = stage.param_bytes > need(worst) / 2;
    throw OverBudget(
        "a budget of " + mib(instance.options.budget_bytes) + " is too small: stage " + stage.name + " alone takes " +
            mib(need(worst)) + " (" + mib(stage.param_bytes) + " of weights, the rest for computing); max_vram=" +
            std::to_string(std::ceil(static_cast<double>(least) / (1 << 30) * 1000) / 1000).substr(0, 6) +
            " (GiB) would do; " +
            (by_weights ? "a coarser wtype such as q8_0 lowers it"
                        : "a smaller picture, fewer pictures at once or (for the decoder) VAE tiling lowers it"),
        worst, least);
}

}  // namespace

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
    std::optional<Plan> best;
    const auto consider = [&](std::optional<Plan> plan) {
        if (!plan) return;
        predict(instance, *plan);
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
    const std::vector<Work> works = works_of({stages, options}, plan);
    return plan.passes * steady_seconds(works, options.link_bytes_per_s, uploads_of(plan.policy));
}

std::vector<SegmentTimes> timeline(const std::vector<PlanStage>& stages, const PlanOptions& options, const Plan& plan) {
    std::vector<SegmentTimes> times;
    const Instance instance{stages, options};
    steady_seconds(works_of(instance, plan), options.link_bytes_per_s, uploads_of(plan.policy), &times);
    return times;
}

}  // namespace sdcpp
