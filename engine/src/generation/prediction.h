// Kinds of prediction, and the clean estimates that they mean.
#pragma once

#include <vector>

#include "generation/latent.h"

namespace sdcpp {

// The kind of prediction for x = signal * clean + sigma * noise.
enum class Predicts {
    noise,    // "epsilon" (Ho et al. 2020)
    v,        // noise * signal' - clean * sigma' on the unit circle (Salimans & Ho 2022)
    velocity  // noise - clean, a flow's (Lipman et al. 2023)
};

// A clean estimate is linear in the prediction: a * x + b * prediction.
struct CleanEstimate {
    double of_x, of_prediction;
};
CleanEstimate clean_estimate(double sigma, Predicts what);

Floats clean_estimate(const std::vector<double>& prediction, const Floats& x, double sigma, Predicts what);

}  // namespace sdcpp
