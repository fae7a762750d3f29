// Samplers: pure functions of a denoiser, the sigmas, and a source of noise. x = clean + sigma * noise throughout.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "sampling/rng.h"

namespace sdcpp {

using Floats = std::vector<float>;

struct SamplerRun {
    std::function<Floats(const Floats& x, double sigma)> denoise;  // the model's estimate of the clean latent
    std::vector<double> sigmas;                                    // falling, the last one may be 0
    Rng& rng;                                                      // for the stochastic samplers
    double eta = -1;                                               // < 0: the sampler's own
    std::function<void(size_t step, const Floats& denoised)> after_step = {};  // step counts from 1
};

// Runs `sampler` on `x` in place. Throws SDCPP_INVALID_ARGUMENT for an unknown name.
void run_sampler(const std::string& sampler, SamplerRun& run, Floats& x);

const std::vector<std::string>& sampler_names();

}  // namespace sdcpp
