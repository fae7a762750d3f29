// DPM-Solver++ and its kin: exponential integrators of the clean estimate.
#include <algorithm>
#include <utility>

#include "generation/brownian.h"
#include "generation/samplers/all.h"
#include "generation/samplers/steps.h"

namespace sdcpp {

// DPM-Solver++(2S) (Lu et al. 2022b) with ancestral noise.
void dpmpp_2s_a(SamplerRun& run, Floats& x) {
    const double eta = run.eta_or(1);
    each_step(run, x, [&](size_t, double now, double next, const Floats& denoised) {
        const Ancestral step(run.ratio(now), run.ratio(next), eta);
        const double middle = std::sqrt(run.ratio(now) * step.down);
        if (step.down > 0 && std::isfinite(middle)) {
            const double sigma = run.sigma_of_ratio(middle);
            Floats half = brought(run, x, denoised, now, middle);
            settle(run, half, sigma, 0);
            x = brought(run, x, run.denoise(half, sigma), now, step.down);
        } else {
            x = brought(run, x, denoised, now, step.down);
        }
        settle(run, x, next, step.up);
    });
}

// DPM-Solver++(2M) (Lu et al. 2022b). The variant "v2" takes the mean of the last two step sizes in the exponential.
static void dpmpp_2m_with(SamplerRun& run, Floats& x, bool v2) {
    Floats before;
    double h_before = 0;
    each_step(run, x, [&](size_t, double now, double next, const Floats& denoised) {
        const double h = log_step(run, now, next);
        if (before.empty() || next == 0 || !std::isfinite(h_before)) {
            x = first_order(run, x, denoised, now, next);
        } else {
            const double r = v2 ? std::max(h, h_before) / std::min(h, h_before) : h_before / h;
            const Floats extrapolated = mix(1 + 1 / (2 * r), denoised, -1 / (2 * r), before);
            x = mix(next / now, x, -run.signal(next) * std::expm1(v2 ? -(h + h_before) / 2 : -h), extrapolated);
        }
        before = denoised;
        h_before = h;
    });
}

void dpmpp_2m(SamplerRun& run, Floats& x) { dpmpp_2m_with(run, x, false); }
void dpmpp_2m_v2(SamplerRun& run, Floats& x) { dpmpp_2m_with(run, x, true); }

// SDE-DPM-Solver++(2M) (Lu et al. 2022b), midpoint form. `add` puts noise of a size in, between two levels.
template <typename Add>
static void dpmpp_2m_sde_with(SamplerRun& run, Floats& x, Add add) {
    const double eta = run.eta_or(1);
    Floats before;
    double h_before = 0;
    each_step(run, x, [&](size_t, double now, double next, const Floats& denoised) {
        if (next == 0) {
            x = denoised;
            return;
        }
        const double signal = run.signal(next), h = log_step(run, now, next);
        const double noisy = eta > 0 ? eta * h : 0, part = -signal * std::expm1(-h - noisy);
        x = mix(next / now * std::exp(-noisy), x, part, denoised);
        if (!before.empty()) x = mix(1, x, 0.5 * part * h / h_before, mix(1, denoised, -1, before));
        if (eta > 0) add(now, next, next * std::sqrt(-std::expm1(-2 * noisy)));
        before = denoised;
        h_before = h;
    });
}

// Noise of different steps is independent.
void dpmpp_2m_sde(SamplerRun& run, Floats& x) {
    dpmpp_2m_sde_with(run, x, [&](double, double, double size) { add_noise(run, x, size); });
}

// Noise is that of one Brownian motion over the levels, so that runs of one seed go a similar way, however many steps
// they take.
void dpmpp_2m_sde_bt(SamplerRun& run, Floats& x) {
    double least = run.sigmas.front();
    for (const double sigma : run.sigmas)
        if (sigma > 0) least = std::min(least, sigma);
    const std::vector<Origin> origins = run.rng.origins();
    const size_t each = x.size() / origins.size();
    std::vector<BrownianTree> motions;
    for (const Origin& origin : origins) motions.emplace_back(origin, least, run.sigmas.front(), each);
    dpmpp_2m_sde_with(run, x, [&](double now, double next, double size) {
        for (size_t picture = 0; picture < motions.size(); ++picture) {
            const Floats noise = motions[picture].step(now, next);
            for (size_t i = 0; i < each; ++i) {
                float& value = x[picture * each + i];
                value = static_cast<float>(value + size * noise[i]);
            }
        }
    });
}

// SDE-DPM-Solver++(3M), as k-diffusion writes it: the estimate's first and second differences.
void dpmpp_3m_sde(SamplerRun& run, Floats& x) {
    const double eta = run.eta_or(1);
    Floats before, earlier;
    double h_before = 0, h_earlier = 0;
    each_step(run, x, [&](size_t, double now, double next, const Floats& denoised) {
        if (next == 0) {
            x = denoised;
            return;
        }
        const double signal = run.signal(next), h = log_step(run, now, next);
        const double noisy = eta > 0 ? eta * h : 0, whole = h + noisy;
        x = mix(next / now * std::exp(-noisy), x, -signal * std::expm1(-whole), denoised);
        const double second = std::expm1(-whole) / whole + 1, third = second / whole - 0.5;
        if (!earlier.empty() && std::isfinite(h_earlier)) {
            const double r0 = h_before / h, r1 = h_earlier / h;
            const Floats near = mix(1 / r0, denoised, -1 / r0, before), far = mix(1 / r1, before, -1 / r1, earlier);
            const Floats bend = mix(1 / (r0 + r1), near, -1 / (r0 + r1), far);
            x = mix(1, x, signal, mix(second, mix(1, near, r0, bend), -third, bend));
        } else if (!before.empty() && std::isfinite(h_before)) {
            x = mix(1, x, signal * second * h / h_before, mix(1, denoised, -1, before));
        }
        if (eta > 0) add_noise(run, x, next * std::sqrt(-std::expm1(-2 * noisy)));
        earlier = std::exchange(before, denoised);
        h_earlier = std::exchange(h_before, h);
    });
}

// SDE-DPM-Solver++ of two stages, as k-diffusion writes it: noise is renewed at the middle, too.
void dpmpp_sde(SamplerRun& run, Floats& x) {
    const double eta = run.eta_or(1);
    each_step(run, x, [&](size_t, double now, double next, const Floats& denoised) {
        const double from = run.ratio(now), middle = std::sqrt(from * run.ratio(next));
        if (next == 0 || !std::isfinite(middle)) {
            const Ancestral only(from, run.ratio(next), next == 0 ? 0 : eta);
            x = brought(run, x, denoised, now, only.down);
            settle(run, x, next, only.up);
            return;
        }
        const double sigma = run.sigma_of_ratio(middle);
        const Ancestral half(from, middle, eta), all(from, run.ratio(next), eta);
        Floats inside = brought(run, x, denoised, now, half.down);
        settle(run, inside, sigma, half.up);
        x = brought(run, x, run.denoise(inside, sigma), now, all.down);
        settle(run, x, next, all.up);
    });
}

}  // namespace sdcpp
