// Step caches: steps whose predictions are taken from those of the steps before, without running the network.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "generation/denoise.h"

namespace sdcpp {

struct CacheOptions {
    std::string mode = "none";
    // EasyCache, first block: how much the predictions, or the first block's work, may have changed since the last step
    // that was computed, as a share; below 0: the mode's own.
    double threshold = -1;
    double start = 0.15, end = 0.95;  // share of the steps in which predictions are taken from the cache
    // TaylorSeer: one step in so many is computed, and the order of the series.
    int interval = 3, order = 1;

    bool on() const { return mode != "none"; }
    bool by_first_block() const { return mode == "first_block"; }  // which the network's runner does
    double threshold_or(double own) const { return threshold < 0 ? own : threshold; }
    bool counts_at(double share) const { return share >= start && share < end; }
};

const std::vector<std::string>& cache_names();

// What a cache has saved.
struct CacheCount {
    int skipped = 0, all = 0;  // evaluations of the network
};

// What takes part in a step beside the prompts, such as ControlNets. When it changes, caches begin anew.
using Others = std::function<std::vector<bool>(size_t step)>;

// `predict` with a cache in front. `flow` tells how the network sees x. `count` outlives it.
PredictFor cached(PredictFor predict, const CacheOptions& options, std::vector<double> sigmas, bool flow, Others others,
                  CacheCount& count);

}  // namespace sdcpp
