// The policy pipelined. Streamed weights go round and round through one ring of memory. The link fills it ahead of the
// compute and without pause, also from one step to the next. The other weights are resident. How much of each stage is
// streamed is searched for: simple patterns first, then small changes to the best of them, each judged by simulating
// it.
#include <numeric>

#include "planning/search.h"

namespace sdcpp::planning {
namespace {

constexpr double good_enough = 1.002;       // times what nothing can beat
constexpr double worth_merging = 1e-3;      // share of a pass that starting all graphs may take
constexpr int64_t search_effort = 800'000;  // events looked at in one plan: some milliseconds

std::vector<int> divisors(int number) {
    std::vector<int> out;
    for (int d = number; d >= 1; --d)
        if (number % d == 0) out.push_back(d);
    return out;
}

// Every way to take microbatches together that leaves room for weights, the largest first.
std::vector<Grouping> groupings(const Instance& instance) {
    uint64_t compute = 0, carry = 0;
    for (const PlanStage& stage : instance.stages) {
        compute = std::max(compute, stage.compute_bytes);
        carry = std::max(carry, stage.carry_in_bytes + stage.carry_out_bytes);
    }
    std::vector<Grouping> out;
    for (const int together : divisors(instance.options.microbatches)) {
        for (const int group : divisors(together)) {
            Grouping g{together, group, compute * static_cast<uint64_t>(group), carry * static_cast<uint64_t>(together),
                       uint64_t{1} << 60};
            if (!instance.fits(g.workspace + g.carry)) continue;
            if (instance.options.budget_bytes > 0) g.room = instance.options.budget_bytes - g.workspace - g.carry;
            out.push_back(g);
        }
    }
    return out;
}

// Segments of a plan under construction: stages, and the pieces they need.
class Segments {
  public:
    // `ways`: for each of the plan's pieces, which one is in its way, as Layout::after().
    Segments(const Instance& instance, const Grouping& grouping, Plan& plan, std::vector<int64_t> ways)
        : in_(instance), grouping_(grouping), plan_(plan), ways_(std::move(ways)) {
        for (size_t i = 0; i < in_.count(); ++i) {
            plan_.segments.push_back({i, i, 0, 0, 0, 0, plan_.resident[i], -1});
            extents_.push_back(in_.extent(i, i));
        }
        link_pieces();
    }

    // Neighbours run as one graph if that takes no more memory and, while stages are streamed, saves time.
    void merge(uint64_t weights) {
        const double starting = in_.options.dispatch_seconds * static_cast<double>(in_.count());
        double seconds = predicted();
        const bool matters = starting > seconds * worth_merging;
        for (size_t s = 0; s + 1 < plan_.segments.size();) {
            const PlannedSegment &a = plan_.segments[s], &b = plan_.segments[s + 1];
            const bool resident = a.resident && b.resident;
            if (!(resident || matters) || !mergeable(a.first, b.last, weights)) {
                ++s;
                continue;
            }
            const std::vector<PlannedSegment> kept = plan_.segments;
            plan_.segments[s].last = b.last;
            plan_.segments[s].resident = resident;
            plan_.segments.erase(plan_.segments.begin() + static_cast<std::ptrdiff_t>(s) + 1);
            const bool possible = link_pieces();
            const double now = possible && matters ? predicted() : seconds;
            if (possible && now <= seconds * (1 + 1e-9)) {
                seconds = now;
                extents_[s] = in_.extent(plan_.segments[s].first, plan_.segments[s].last);
                extents_.erase(extents_.begin() + static_cast<std::ptrdiff_t>(s) + 1);
            } else {
                plan_.segments = kept;
                link_pieces();
                ++s;
            }
        }
    }

    // Fills in what follows from the segments' stages.
    void finish() {
        for (size_t s = 0; s < plan_.segments.size(); ++s) {
            PlannedSegment& segment = plan_.segments[s];
            segment.param_bytes = in_.params(segment.first, segment.last);
            segment.compute_bytes = compute(extents_[s]);
            segment.footprint_bytes = segment.param_bytes + compute(extents_[s]) + carry(extents_[s]);
            for (size_t i = segment.first; i <= segment.last; ++i) segment.streamed_bytes += plan_.streamed[i];
            plan_.workspace_bytes = std::max(plan_.workspace_bytes, segment.compute_bytes);
            plan_.carry_bytes = std::max(plan_.carry_bytes, carry(extents_[s]));
        }
        for (auto piece = plan_.pieces.rbegin(); piece != plan_.pieces.rend();
             ++piece) {  // a stage's first piece counts
            uint64_t start = 0;
            int slot = 0;
            while (piece->offset >= start + plan_.slots[static_cast<size_t>(slot)])
                start += plan_.slots[static_cast<size_t>(slot++)];
            plan_.segments[piece->segment].slot = slot;
        }
    }

  private:
    uint64_t compute(const UnionBytes& bytes) const { return bytes.compute * static_cast<uint64_t>(grouping_.group); }
    uint64_t carry(const UnionBytes& bytes) const {
        return (bytes.carry_in + bytes.carry_out) * static_cast<uint64_t>(grouping_.together);
    }
    double predicted() const { return predicted_seconds(in_.stages, in_.options, plan_); }

    bool mergeable(size_t first, size_t last, uint64_t weights) const {
        const UnionBytes bytes = in_.extent(first, last);
        const bool all = first == 0 && last + 1 == in_.count();  // one segment: it alone is to fit
        uint64_t workspace = std::max(all ? 0 : grouping_.workspace, compute(bytes));
        uint64_t carried = std::max(all ? 0 : grouping_.carry, carry(bytes));
        for (size_t i = 0; !all && i < extents_.size(); ++i) {
            workspace = std::max(workspace, compute(extents_[i]));
            carried = std::max(carried, carry(extents_[i]));
        }
        return in_.fits(weights + workspace + carried);
    }

    // Gives each piece its segment and the segment that it waits for; false if that is the same one.
    bool link_pieces() {
        size_t s = 0;
        for (PlannedPiece& piece : plan_.pieces) {
            while (plan_.segments[s].last < piece.stage) ++s;
            piece.segment = s;
        }
        for (size_t i = 0; i < ways_.size(); ++i) {
            const bool before = ways_[i] < 0;  // in the pass before
            const int64_t way = ways_[i] + (before ? std::ssize(ways_) : 0);
            const size_t segment = plan_.pieces[static_cast<size_t>(way)].segment;
            if (!before && segment == plan_.pieces[i].segment) return false;
            plan_.pieces[i].after = static_cast<int64_t>(segment) - (before ? std::ssize(plan_.segments) : 0);
        }
        return true;
    }

    const Instance& in_;
    const Grouping& grouping_;
    Plan& plan_;
    std::vector<int64_t> ways_;
    std::vector<UnionBytes> extents_;  // each segment's
};

Plan plan_of(const Instance& instance, Search& search, const Grouping& grouping, const Choice& choice) {
    Plan plan;
    plan.policy = Policy::pipelined;
    plan.together = grouping.together;
    plan.group = grouping.group;
    plan.passes = instance.options.microbatches / grouping.together;
    for (size_t i = 0; i < instance.count(); ++i) {
        plan.streamed.push_back(search.streamed_of(choice, i));
        plan.resident.push_back(plan.streamed.back() == 0);
        plan.resident_bytes += instance.stages[i].param_bytes - plan.streamed.back();
        plan.streamed_bytes_per_step += plan.streamed.back() * static_cast<uint64_t>(plan.passes);
    }
    Segments segments(instance, grouping, plan, search.lay_out(grouping, choice, plan));
    const uint64_t weights = std::accumulate(plan.slots.begin(), plan.slots.end(), plan.resident_bytes);
    segments.merge(weights);
    segments.finish();
    plan.peak_bytes = weights + plan.workspace_bytes + plan.carry_bytes;
    return plan;
}

std::optional<Plan> searched_plan(const Instance& instance) {
    Search search(instance);
    std::optional<Choice> best;
    Grouping best_grouping;
    double best_seconds = 0;
    const double good_seconds = limit_of(instance) * good_enough;
    const uint64_t params = instance.params(0, instance.count() - 1);
    int64_t effort = search_effort;
    for (const Grouping& grouping : groupings(instance)) {
        const int passes = instance.options.microbatches / grouping.together;
        const double uploads =
            static_cast<double>(params - std::min(params, grouping.room)) / instance.options.link_bytes_per_s * passes;
        if (best && uploads >= best_seconds) continue;
        effort /= 2;
        auto choice = search.best(grouping, good_seconds / passes, effort);
        if (!choice || (best && choice->seconds * passes >= best_seconds * (1 - 1e-6))) continue;
        best = std::move(choice);
        best_grouping = grouping;
        best_seconds = best->seconds * passes;
        if (best_seconds <= good_seconds) break;
    }
    if (!best) return std::nullopt;
    Plan plan = plan_of(instance, search, best_grouping, search.with_more_resident(best_grouping, std::move(*best)));
    if (!instance.fits(plan.peak_bytes)) return std::nullopt;
    return plan;
}

}  // namespace

std::optional<Plan> pipelined_plan(const Instance& instance) {
    if (instance.options.max_resident < 0 || !instance.streams()) return searched_plan(instance);
    PlanOptions options = instance.options;
    const Blocks blocks(instance);
    if (static_cast<size_t>(options.max_resident) >= blocks.instance().count()) {
        options.max_resident = -1;
        return searched_plan({instance.stages, options});
    }
    // Layers are counted, so blocks stay or go as a whole.
    if (auto plan = searched_plan(blocks.instance())) return blocks.expanded(std::move(*plan));
    options.max_resident = 0;
    return searched_plan({instance.stages, options});
}

uint64_t least_for_pipelined(const Instance& instance) {
    uint64_t params = 0, total = 0, compute = 0, carry = 0;
    for (const PlanStage& stage : instance.stages) {
        params = std::max(params, stage.param_bytes);
        total += stage.param_bytes;
        compute = std::max(compute, stage.compute_bytes);
        carry = std::max(carry, stage.carry_in_bytes + stage.carry_out_bytes);
    }
    return compute + carry + (instance.options.offload_to_cpu ? params : total);
}

}  // namespace sdcpp::planning
