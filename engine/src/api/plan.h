// The handle of a plan, shared by the functions that make one.
#pragma once

#include <memory>
#include <vector>

#include "runtime/executor.h"
#include "sdcpp.h"

struct sdcpp_plan {
    std::vector<sdcpp::PlanStage> stages;
    sdcpp::Plan plan;
    sdcpp::Timeline times;
    std::vector<double> measured;  // compute seconds of each segment in a run; empty: not run
    uint64_t budget_bytes = 0;
    double link_bytes_per_s = 0;
};

namespace sdcpp {

// Throws SDCPP_INVALID_ARGUMENT; null: automatic.
Policy policy_from(const char* name);
std::unique_ptr<sdcpp_plan> plan_handle(RunReport report);

}  // namespace sdcpp
