// Euler's method and what is made from it.
#include <cmath>
#include <utility>

#include "generation/samplers/all.h"
#include "generation/samplers/steps.h"

namespace sdcpp {

// Euler's method with some of the noise renewed; `eta` 0 gives the plain method (Karras et al. 2022, algorithm 2
// without churn).
static void euler_with(SamplerRun& run, Floats& x, double eta) {
    each_step(run, x, [&](size_t, double now, double next, const Floats& denoised) {
        const Ancestral step(run.ratio(now), run.ratio(next), eta);
        x = brought(run, x, denoised, now, step.down);
        settle(run, x, next, step.up);
    });
}

void euler(SamplerRun& run, Floats& x) { euler_with(run, x, 0); }
void euler_a(SamplerRun& run, Floats& x) { euler_with(run, x, run.eta_or(1)); }

// DDIM (Song et al. 2021, equation 12): in these coordinates its update is Euler's, and its eta is the renewed noise.
void ddim(SamplerRun& run, Floats& x) {
    if (run.landings.empty()) return euler_with(run, x, run.eta_or(0));
    each_step(run, x, [&](size_t i, double now, double next, const Floats& denoised) {
        const double landing = run.landings[i];
        const Ancestral step(now, landing, run.eta_or(0));
        x = brought(run, x, denoised, now, step.down);
        settle(run, x, landing, step.up);
        const double scale = std::hypot(1.0, next) / std::hypot(1.0, landing);
        for (float& value : x) value = static_cast<float>(scale * value);
    });
}

// Gradient estimation (Permenter & Yuan 2023, arXiv 2306.04848): the slope is moved away from the last one, by gamma.
void euler_ge(SamplerRun& run, Floats& x) {
    constexpr double gamma = 2;
    Floats before;
    each_step(run, x, [&](size_t, double now, double next, const Floats& denoised) {
        Floats direction = slope(x, denoised, now);
        if (next == 0)
            x = denoised;
        else
            x = mix(1, x, next - now, before.empty() ? direction : mix(gamma, direction, 1 - gamma, before));
        before = std::move(direction);
    });
}

// CFG++ (Chung et al. 2024, arXiv 2406.08070): the noise that is put back is the negative prompt's estimate of it.
static void euler_cfg_pp_with(SamplerRun& run, Floats& x, double eta) {
    each_step(run, x, [&](size_t, double now, double next, const Floats& denoised) {
        const Floats& negative = run.negative && !run.negative->empty() ? *run.negative : denoised;
        const Ancestral step(run.ratio(now), run.ratio(next), eta);
        const Floats noise = mix(1 / now, x, -run.signal(now) / now, negative);
        x = mix(1, denoised, step.down, noise);
        settle(run, x, next, step.up);
    });
}

void euler_cfg_pp(SamplerRun& run, Floats& x) { euler_cfg_pp_with(run, x, 0); }
void euler_a_cfg_pp(SamplerRun& run, Floats& x) { euler_cfg_pp_with(run, x, run.eta_or(1)); }

}  // namespace sdcpp
