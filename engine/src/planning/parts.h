// Shared by the planner's files: the instance at hand and the makers of single policies' plans.
#pragma once

#include <algorithm>
#include <optional>

#include "planning/planner.h"

namespace sdcpp::planning {

struct Instance {
    const std::vector<PlanStage>& stages;
    const PlanOptions& options;

    size_t count() const { return stages.size(); }
    bool streams() const { return options.stream_layers && options.offload_to_cpu && options.budget_bytes > 0; }
    bool fits(uint64_t bytes) const { return options.budget_bytes == 0 || bytes <= options.budget_bytes; }

    UnionBytes extent(size_t first, size_t last) const {
        if (options.measure) return options.measure(first, last);
        UnionBytes out{0, stages[first].carry_in_bytes, stages[last].carry_out_bytes, 0};
        for (size_t i = first; i <= last; ++i) {
            out.compute = std::max(out.compute, stages[i].compute_bytes);
            out.extra = std::max(out.extra, stages[i].extra_bytes);
        }
        return out;
    }
    uint64_t params(size_t first, size_t last) const {
        uint64_t sum = 0;
        for (size_t i = first; i <= last; ++i) sum += stages[i].param_bytes;
        return sum;
    }
    double seconds(size_t first, size_t last) const {
        double sum = 0;
        for (size_t i = first; i <= last; ++i) sum += stages[i].seconds;
        return sum;
    }
};

// The network with each block as one stage, all or nothing.
class Blocks {
  public:
    explicit Blocks(const Instance& fine);
    Blocks(const Blocks&) = delete;
    Blocks& operator=(const Blocks&) = delete;

    Instance instance() const { return {stages_, options_}; }
    // A plan for the blocks as one for the stages.
    Plan expanded(Plan plan) const;

  private:
    const Instance fine_;
    std::vector<size_t> first_;  // stage of each block, and the number of stages
    std::vector<PlanStage> stages_;
    PlanOptions options_;
};

// full, capped or capped_prefetch. Empty if the plan would pass the budget.
std::optional<Plan> merged_plan(const Instance& instance, Policy policy);
// The budget from which on merged_plan() gives one.
uint64_t least_for_merged(const Instance& instance);

std::optional<Plan> pipelined_plan(const Instance& instance);
uint64_t least_for_pipelined(const Instance& instance);

// See limit_seconds().
double limit_of(const Instance& instance);

}  // namespace sdcpp::planning
