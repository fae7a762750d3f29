// Methods that look at the middle or the end of a step before they take it.
#include "generation/samplers/all.h"
#include "generation/samplers/steps.h"

namespace sdcpp {

// Heun's second-order method (Karras et al. 2022, algorithm 1).
void heun(SamplerRun& run, Floats& x) {
    each_step(run, x, [&](size_t, double now, double next, const Floats& denoised) {
        const Floats first = slope(x, denoised, now);
        if (next == 0) {
            x = mix(1, x, next - now, first);
            return;
        }
        const Floats ahead = mix(1, x, next - now, first);
        const Floats second = slope(ahead, run.denoise(ahead, next), next);
        x = mix(1, x, next - now, mix(0.5, first, 0.5, second));
    });
}

// DPM-Solver-2 (Lu et al. 2022) as k-diffusion writes it: a midpoint in log sigma.
void dpm2(SamplerRun& run, Floats& x) {
    each_step(run, x, [&](size_t, double now, double next, const Floats& denoised) {
        Floats direction = slope(x, denoised, now);
        if (next > 0) {
            const double middle = std::sqrt(now * next);
            const Floats half = mix(1, x, middle - now, direction);
            direction = slope(half, run.denoise(half, middle), middle);
        }
        x = mix(1, x, next - now, direction);
    });
}

// DPM-Solver-2 with some of the noise renewed, as k-diffusion writes it. At a flow's first level, where the ratio of
// noise to signal is infinite, the step is Euler's.
void dpm2_a(SamplerRun& run, Floats& x) {
    const double eta = run.eta_or(1);
    each_step(run, x, [&](size_t, double now, double next, const Floats& denoised) {
        const double from = run.ratio(now);
        const Ancestral step(from, run.ratio(next), eta);
        if (step.down > 0 && std::isfinite(from)) {
            const double middle = std::sqrt(from * step.down), sigma = run.sigma_of_ratio(middle);
            Floats half = brought(run, x, denoised, now, middle);
            Floats inside = half;  // its signal is 1, the network's input has the signal at sigma
            settle(run, inside, sigma, 0);
            const Floats direction = slope(half, run.denoise(inside, sigma), middle);
            x = mix(1 / run.signal(now), x, step.down - from, direction);
        } else {
            x = brought(run, x, denoised, now, step.down);
        }
        settle(run, x, next, step.up);
    });
}

// The refined exponential solver of two stages (Zhang et al. 2023, arXiv 2308.02157), its middle at half a step of the
// logarithm.
void res_2s(SamplerRun& run, Floats& x) {
    each_step(run, x, [&](size_t, double now, double next, const Floats& denoised) {
        const double h = log_step(run, now, next), middle = std::sqrt(run.ratio(now) * run.ratio(next));
        if (!std::isfinite(h)) {
            x = first_order(run, x, denoised, now, next);
            return;
        }
        const double sigma = run.sigma_of_ratio(middle);
        Floats half = brought(run, x, denoised, now, middle);
        settle(run, half, sigma, 0);
        const double first = -std::expm1(-h) / h,
                     second = 2 * (1 - first) / h;  // the functions phi of -h, over c = 1/2
        const Floats slopes = mix(first - second, denoised, second, run.denoise(half, sigma));
        x = mix(next / now, x, run.signal(next) * h, slopes);
    });
}

}  // namespace sdcpp
