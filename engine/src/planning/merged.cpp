// The policies full and capped: the published rules of stable-diffusion.cpp (pull requests 1576 to 1612), to the byte.
// They cut between blocks only.
#include "planning/parts.h"

namespace sdcpp::planning {
namespace {

constexpr uint64_t safety = uint64_t{512} << 20;

struct Merged {
    size_t first, last;
    UnionBytes bytes;
    uint64_t params;
    uint64_t footprint() const { return bytes.compute + params + bytes.carry_in + bytes.carry_out; }
};

Merged merge(const Instance& instance, size_t first, size_t last) {
    return {first, last, instance.extent(first, last), instance.params(first, last)};
}

std::vector<Merged> merge_under(const Instance& instance, uint64_t limit) {
    std::vector<Merged> out;
    for (size_t i = 0; i < instance.count();) {
        Merged segment = merge(instance, i, i);
        while (segment.footprint() <= limit && segment.last + 1 < instance.count()) {
            const Merged longer = merge(instance, i, segment.last + 1);
            if (longer.footprint() > limit) break;
            segment = longer;
        }
        i = segment.last + 1;
        out.push_back(segment);
    }
    return out;
}

// How many stages from the first on stay resident.
size_t resident_prefix(const Instance& instance, const std::vector<Merged>& segments, Policy policy) {
    uint64_t worst_merged = 0, worst_stage = 0;
    for (const Merged& s : segments) worst_merged = std::max(worst_merged, s.footprint() + s.bytes.extra);
    for (size_t i = 0; i < instance.count(); ++i) {
        const Merged single = merge(instance, i, i);
        worst_stage = std::max(worst_stage, single.footprint() + single.bytes.extra);
    }
    const uint64_t budget = instance.options.budget_bytes;
    const uint64_t taken = policy == Policy::capped_prefetch ? 2 * worst_merged : worst_merged;
    const uint64_t rest = budget > taken ? budget - taken : 0;
    if (rest <= safety + worst_stage) return 0;
    const uint64_t room = rest - safety - worst_stage;
    size_t count = 0;
    uint64_t sum = 0;
    while (count < instance.count() && sum + instance.stages[count].param_bytes <= room)
        sum += instance.stages[count++].param_bytes;
    if (instance.options.max_resident >= 0) count = std::min(count, static_cast<size_t>(instance.options.max_resident));
    return count;
}

// The segment that was in the slot before segment `number`; below 0: one of the previous pass.
int64_t before_in_slot(const std::vector<PlannedSegment>& segments, size_t number) {
    const size_t count = segments.size();
    for (size_t back = 1; back < count; ++back) {
        const PlannedSegment& other = segments[(number + count - back) % count];
        if (other.streamed_bytes > 0 && other.slot == segments[number].slot)
            return static_cast<int64_t>(number) - static_cast<int64_t>(back);
    }
    return static_cast<int64_t>(number) - static_cast<int64_t>(count);  // itself
}

Plan plan_of(const Instance& instance, const std::vector<Merged>& segments, Policy policy) {
    const PlanOptions& options = instance.options;
    Plan plan;
    plan.policy = policy;
    plan.passes = options.microbatches;
    size_t residents = 0;
    if (segments.size() == 1)
        residents = instance.count();
    else if (instance.streams())
        residents = resident_prefix(instance, segments, policy);
    plan.resident.assign(instance.count(), false);
    std::fill_n(plan.resident.begin(), residents, true);
    for (size_t i = 0; i < instance.count(); ++i)
        plan.streamed.push_back(i < residents ? 0 : instance.stages[i].param_bytes);
    if (residents > 0) plan.resident_bytes = instance.params(0, residents - 1);

    uint64_t slot = 0, peak = 0, streamed = 0;
    for (const Merged& s : segments) {
        PlannedSegment out{s.first, s.last, s.params, s.bytes.compute, s.footprint(), 0, s.last < residents, -1};
        if (!out.resident) {
            out.streamed_bytes = instance.params(std::max(s.first, residents), s.last);
            out.slot = policy == Policy::capped_prefetch ? static_cast<int>(plan.segments.size() % 2) : 0;
        }
        slot = std::max(slot, out.streamed_bytes);
        streamed += out.streamed_bytes;
        plan.workspace_bytes = std::max(plan.workspace_bytes, s.bytes.compute);
        plan.carry_bytes = std::max(plan.carry_bytes, s.bytes.carry_in + s.bytes.carry_out);
        peak = std::max(peak, s.footprint() - s.params + out.streamed_bytes);
        plan.segments.push_back(out);
    }
    for (size_t s = 0; s < segments.size(); ++s) {
        uint64_t offset = plan.segments[s].slot == 1 ? slot : 0;
        for (size_t i = std::max(segments[s].first, residents); i <= segments[s].last; ++i) {
            const uint64_t bytes = instance.stages[i].param_bytes;
            if (bytes == 0) continue;
            plan.pieces.push_back({s, i, {}, bytes, offset, before_in_slot(plan.segments, s)});
            offset += bytes;
        }
    }
    if (policy == Policy::capped_prefetch && streamed > 0) {
        plan.slots = {slot, slot};
        peak = 2 * slot + plan.workspace_bytes + plan.carry_bytes;
    } else if (streamed > 0) {
        plan.slots = {slot};
    }
    if (options.allocated_once) peak = plan.workspace_bytes + plan.carry_bytes + (plan.slots.empty() ? 0 : slot);
    plan.peak_bytes = plan.resident_bytes + peak;
    plan.streamed_bytes_per_step = streamed * static_cast<uint64_t>(options.microbatches);
    return plan;
}

std::optional<Plan> plan_for_blocks(const Instance& instance, Policy policy) {
    const PlanOptions& options = instance.options;
    const uint64_t budget = options.budget_bytes, params = instance.params(0, instance.count() - 1);
    if (budget == 0) return plan_of(instance, {merge(instance, 0, instance.count() - 1)}, policy);
    const bool capped = policy != Policy::full && instance.streams() && 4 * params > 3 * budget;
    uint64_t limit = capped ? budget / 4 : budget;
    while (true) {
        Plan plan = plan_of(instance, merge_under(instance, limit), policy);
        const bool all = plan.segments.size() == 1 && options.max_resident >= 0;
        if (all && options.policy == Policy::automatic &&
            static_cast<uint64_t>(options.max_resident) < instance.count())
            return std::nullopt;
        if (plan.peak_bytes <= budget) return plan;
        // Largest workspace and largest weights may belong to different segments: if both are taken for good,
        // shorter segments can do what the rule's own cannot.
        if (!options.allocated_once || plan.segments.size() == instance.count()) return std::nullopt;
        limit -= std::min(limit, std::max(plan.peak_bytes - budget, limit / 16 + 1));
    }
}

}  // namespace

std::optional<Plan> merged_plan(const Instance& instance, Policy policy) {
    const Blocks blocks(instance);
    auto plan = plan_for_blocks(blocks.instance(), policy);
    if (plan) plan = blocks.expanded(std::move(*plan));
    return plan;
}

uint64_t least_for_merged(const Instance& fine) {
    const Blocks blocks(fine);
    const Instance instance = blocks.instance();
    uint64_t worst = 0, params = 0, compute = 0, carry = 0;
    for (size_t i = 0; i < instance.count(); ++i) {
        const Merged single = merge(instance, i, i);
        worst = std::max(worst, single.footprint());
        params = std::max(params, single.params);
        compute = std::max(compute, single.bytes.compute);
        carry = std::max(carry, single.bytes.carry_in + single.bytes.carry_out);
    }
    return instance.options.allocated_once ? params + compute + carry : worst;
}

}  // namespace sdcpp::planning
