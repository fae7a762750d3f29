// When a plan's segments are uploaded and computed: an event simulation of one compute queue and one link.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "runtime/planner.h"

namespace sdcpp {

// One segment's turn. `bytes` 0: nothing to upload. A slot is free again when what it held has been computed.
struct Work {
    double seconds = 0;
    uint64_t bytes = 0;
    int slot = -1;
};

enum class Uploads {
    in_series,   // each when the segment before has been computed
    one_ahead,   // each when the segment before starts to compute
    continuous,  // each as soon as the link and its slot are free, also across passes
};

// Seconds of a pass once passes follow each other steadily. `times`: where to put those of the last pass, or null.
double steady_seconds(std::span<const Work> pass, double link_bytes_per_s, Uploads uploads,
                      std::vector<SegmentTimes>* times = nullptr);

}  // namespace sdcpp
