// Denoisers made of denoisers: functions from noisy latents and their level of noise to the clean estimate, as samplers
// call them.
#pragma once

#include <functional>
#include <vector>

#include "generation/guidance.h"
#include "generation/prediction.h"
#include "generation/samplers.h"

namespace sdcpp {

using Denoise = std::function<Floats(const Floats& x, double sigma)>;
// A network's prediction, not rounded before it is used.
using Predict = std::function<std::vector<double>(const Floats& x, double sigma)>;

Denoise predicted(Predict network, Predicts what);

// The number of the step that a level of noise belongs to.
size_t step_of(double sigma, const std::vector<double>& sigmas);

// A conditioning's part in a run.
struct Guide {
    bool negative = false;
    double weight = 1;          // may be below 0
    double start = 0, end = 1;  // share of the steps in which it counts
    bool skips_blocks = false;  // a positive's once more, for skip-layer guidance
};

// Guidance of predictions by several conditionings. The positive side is negative + the sum of weight * (its prediction
// - negative) over the guides that count at the present step (Liu et al. 2022, "Compositional visual generation"); the
// negative side is the weighted mean of its guides. If no negative counts, the positive's weighted mean stands alone.
// Guides that skip blocks are asked in the steps of skip-layer guidance alone, and stand behind all others in `which`.
// `predict` returns the predictions for the guides `which`, one behind the other. `sigmas`: the run's. `negative`, if
// it is not null, gets the negative side's prediction with each call, or becomes empty if there is none.
using PredictFor = std::function<Floats(const Floats& x, double sigma, const std::vector<size_t>& which)>;
Predict guided(PredictFor predict, std::vector<Guide> guides, Guided combine, std::vector<double> sigmas,
               std::vector<double>* negative = nullptr);

}  // namespace sdcpp
