// Denoisers made of denoisers: functions from noisy latents and their level of noise to the clean estimate, as samplers
// call them.
#pragma once

#include <functional>
#include <span>
#include <vector>

#include "generation/samplers.h"

namespace sdcpp {

using Denoise = std::function<Floats(const Floats& x, double sigma)>;
// A network's prediction, not rounded before it is used.
using Predict = std::function<std::vector<double>(const Floats& x, double sigma)>;

// The kind of prediction for x = signal * clean + sigma * noise.
enum class Predicts {
    noise,    // "epsilon" (Ho et al. 2020)
    v,        // noise * signal' - clean * sigma' on the unit circle (Salimans & Ho 2022)
    velocity  // noise - clean, a flow's (Lipman et al. 2023)
};

// The clean estimate from a network's prediction.
Floats clean_estimate(const std::vector<double>& prediction, const Floats& x, double sigma, Predicts what);
Denoise predicted(Predict network, Predicts what);

// A conditioning's part in a run.
struct Guide {
    bool negative = false;
    double weight = 1;          // among those of its side
    double start = 0, end = 1;  // share of the steps in which it counts
};

// The number of the step, from 0, that a level of noise belongs to.
size_t step_of(double sigma, const std::vector<double>& sigmas);

// Classifier-free guidance (Ho & Salimans 2022) of predictions: negative + scale * (positive - negative). Each side is
// the weighted mean of the guides that count at the present step; the positive stands alone if no negative counts.
// `predict` returns the predictions for the guides `which`, one behind the other. `sigmas`: the run's. `negative`, if
// it is not null, gets the negative side's prediction with each call, or becomes empty if there is none.
using PredictFor = std::function<Floats(const Floats& x, double sigma, const std::vector<size_t>& which)>;
Predict guided(PredictFor predict, std::vector<Guide> guides, double scale, std::vector<double> sigmas,
               std::vector<double>* negative = nullptr);

}  // namespace sdcpp
