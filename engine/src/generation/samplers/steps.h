// Pieces that samplers are made of.
#pragma once

#include <cmath>
#include <cstddef>

#include "generation/samplers.h"

namespace sdcpp {

// a * x + b * y, elementwise.
Floats mix(double a, const Floats& x, double b, const Floats& y);

// (x - denoised) / sigma: the direction in which x falls as sigma does.
Floats slope(const Floats& x, const Floats& denoised, double sigma);

void add_noise(SamplerRun& run, Floats& x, double amount);

// A step from one ratio of noise to signal to another in which noise of size `up` replaces noise that was removed down
// to `down`.
struct Ancestral {
    double down, up;
    Ancestral(double from, double to, double eta);
};

// Takes x at `now` to a lower ratio of noise to signal along the line to the clean estimate, its signal 1 (DDIM's
// step).
Floats brought(const SamplerRun& run, const Floats& x, const Floats& denoised, double now, double ratio);

// To the signal at `sigma`, with noise added.
void settle(SamplerRun& run, Floats& x, double sigma, double up);

// The step of a first-order exponential integrator, which DDIM's is: `denoised` counts as constant. An infinite `h`
// gives `denoised`.
Floats first_order(const SamplerRun& run, const Floats& x, const Floats& denoised, double now, double next);

// log(ratio(now) / ratio(next)), the length of a step in half the logarithm of the signal-to-noise ratio. Infinite at
// the last step, and at a flow's first.
inline double log_step(const SamplerRun& run, double now, double next) {
    return std::log(run.ratio(now) / run.ratio(next));
}

template <typename Step>
void each_step(SamplerRun& run, Floats& x, Step step) {
    for (size_t i = 0; i + 1 < run.sigmas.size(); ++i) {
        const double now = run.sigmas[i], next = run.sigmas[i + 1];
        const Floats denoised = run.denoise(x, now);
        step(i, now, next, denoised);
        if (run.after_step) run.after_step(i + 1, denoised, x);
    }
}

}  // namespace sdcpp
