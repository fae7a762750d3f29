// Step caches: steps whose predictions are taken from those of the steps before, without running the network.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "generation/denoise.h"

namespace sdcpp {

struct CacheOptions {
    std::string mode = "none";
    // EasyCache: how much the predictions may have changed since the last one that was computed, as a share.
    double threshold = 0.2;
    double start = 0.15, end = 0.95;  // share of the steps in which predictions are taken from the cache
    // TaylorSeer: one step in so many is computed, and the order of the series.
    int interval = 3, order = 1;

    bool on() const { return mode != "none"; }
};

const std::vector<std::string>& cache_names();

// What a cache has saved.
struct CacheCount {
    int skipped = 0, all = 0;  // evaluations of the network
};

// `predict` with a cache in front. `flow` tells how the network sees x. `count` outlives it.
PredictFor cached(PredictFor predict, const CacheOptions& options, std::vector<double> sigmas, bool flow,
                  CacheCount& count);

}  // namespace sdcpp
