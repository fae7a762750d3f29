// Samplers: pure functions of a denoiser, the sigmas, and a source of noise. x = signal * clean + sigma * noise, where
// the signal is 1 for a diffusion and 1 - sigma for a flow.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "generation/latent.h"
#include "generation/rng.h"

namespace sdcpp {

class NoiseTable;

struct SamplerRun {
    std::function<Floats(const Floats& x, double sigma)> denoise;  // the model's estimate of the clean latent
    std::vector<double> sigmas;                                    // falling, the last one may be 0
    Rng& rng;                                                      // for the stochastic samplers
    double eta = -1;                                               // < 0: the sampler's own
    bool flow = false;
    // The clean estimate of the negative prompt that the last call of `denoise` made; null, or empty, without guidance.
    const Floats* negative = nullptr;
    const NoiseTable* table = nullptr;  // the model's levels of noise; null: the usual ones
    // For DDIM: the level that each step goes to, if it is not quite the next of `sigmas`; the next step takes the
    // result, scaled to a variance of 1, for that one. Empty: none differs.
    std::vector<double> landings{};
    // The step counts from 1; x is what the next one begins from.
    std::function<void(size_t step, const Floats& denoised, const Floats& x)> after_step = {};

    double eta_or(double own) const { return eta < 0 ? own : eta; }
    double signal(double sigma) const { return flow ? 1 - sigma : 1; }
    // Noise to signal; infinite at a flow's beginning. Formulas for a diffusion's sigma hold for it.
    double ratio(double sigma) const { return sigma / signal(sigma); }
    double sigma_of_ratio(double ratio) const { return flow ? ratio / (1 + ratio) : ratio; }
};

// Throws SDCPP_INVALID_ARGUMENT unless there are two sigmas or more, which fall to 0 or above it.
void require_falling(const std::vector<double>& sigmas);

// Runs `sampler` on `x` in place. Throws SDCPP_INVALID_ARGUMENT for an unknown name.
void run_sampler(const std::string& sampler, SamplerRun& run, Floats& x);

const std::vector<std::string>& sampler_names();
// The samplers that SamplerRun::eta has an effect on.
const std::vector<std::string>& samplers_with_eta();

}  // namespace sdcpp
