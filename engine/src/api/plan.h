// The handle of a plan, shared by the functions that make one.
#pragma once

#include <vector>

#include "runtime/planner.h"

struct sdcpp_plan {
    std::vector<sdcpp::PlanStage> stages;
    sdcpp::Plan plan;
    std::vector<sdcpp::SegmentTimes> times;
};
