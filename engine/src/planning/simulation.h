// When a plan's weights are uploaded and its segments computed: an event simulation of one compute queue and one link.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "planning/planner.h"

namespace sdcpp {

// A segment's turn; the next `uploads` of the pass are for it.
struct Work {
    double seconds = 0;
    size_t uploads = 0;
};

struct Upload {
    double seconds = 0;
    int64_t after = 0;  // see PlannedPiece
};

enum class Order {
    in_series,   // a segment's uploads when the one before has been computed
    one_ahead,   // when the one before starts to compute
    continuous,  // each upload as soon as the link and its place are free, also across passes
};

// The numbers of passes from an empty link to a steady flow, and of passes that are counted then.
struct Passes {
    int warm = 3, counted = 2;
};

class Simulation {
  public:
    // Seconds of a pass once passes follow each other steadily. `times` gets the times of the last pass, unless null.
    double steady_seconds(std::span<const Work> pass, std::span<const Upload> uploads, Order order, Passes passes = {},
                          Timeline* times = nullptr);

  private:
    std::vector<double> computed_, computed_before_;  // each segment's end, in the present pass and the one before
};

}  // namespace sdcpp
