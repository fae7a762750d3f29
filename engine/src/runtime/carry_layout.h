// Places of the values between stages in one buffer. Values that live at the same time do not overlap.
#pragma once

#include <cstdint>
#include <vector>

#include "planning/planner.h"
#include "runtime/flow.h"

namespace sdcpp {

struct CarryLayout {
    std::vector<uint64_t> offsets;  // one for each of the flow's carries
    uint64_t bytes = 0;

    static uint64_t aligned(uint64_t bytes) { return (bytes + 255) / 256 * 256; }
};

// The carries of `groups` microbatch groups that run through `segments` of the flow's stages. Values that live within
// one segment take no place: they are workspace.
CarryLayout lay_out(const std::vector<Carry>& carries, const std::vector<PlannedSegment>& segments, int groups);

}  // namespace sdcpp
