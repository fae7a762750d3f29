#include "generation/samplers.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <deque>

#include "base/error.h"
#include "base/names.h"

namespace sdcpp {
namespace {

// a * x + b * y, elementwise.
Floats mix(double a, const Floats& x, double b, const Floats& y) {
    Floats out(x.size());
    for (size_t i = 0; i < x.size(); ++i) out[i] = static_cast<float>(a * x[i] + b * y[i]);
    return out;
}

// (x - denoised) / sigma: the direction in which x falls as sigma does.
Floats slope(const Floats& x, const Floats& denoised, double sigma) { return mix(1 / sigma, x, -1 / sigma, denoised); }

void add_noise(SamplerRun& run, Floats& x, double amount) {
    Floats noise(x.size());
    run.rng.normal(noise);
    for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(x[i] + amount * noise[i]);
}

// A step from one ratio of noise to signal to another in which noise of size `up` replaces noise that was removed down
// to `down`.
struct Ancestral {
    double down, up;
    Ancestral(double from, double to, double eta) {
        up = std::min(to, eta * to * std::sqrt(1 - (to / from) * (to / from)));
        down = std::sqrt(to * to - up * up);
    }
};

// Takes x at `now` to a lower ratio of noise to signal along the line to the clean estimate, its signal 1 (DDIM's
// step).
Floats brought(const SamplerRun& run, const Floats& x, const Floats& denoised, double now, double ratio) {
    return mix(ratio / now, x, 1 - ratio * run.signal(now) / now, denoised);
}

// To the signal at `sigma`, with noise added.
void settle(SamplerRun& run, Floats& x, double sigma, double up) {
    if (up > 0) add_noise(run, x, up);
    if (run.flow)
        for (float& value : x) value = static_cast<float>(run.signal(sigma) * value);
}

template <typename Step>
void each_step(SamplerRun& run, Floats& x, Step step) {
    for (size_t i = 0; i + 1 < run.sigmas.size(); ++i) {
        const double now = run.sigmas[i], next = run.sigmas[i + 1];
        const Floats denoised = run.denoise(x, now);
        step(i, now, next, denoised);
        if (run.after_step) run.after_step(i + 1, denoised);
    }
}

// Euler's method with some of the noise renewed; `eta` 0 gives the plain method (Karras et al. 2022, algorithm 2
// without churn).
void euler_with(SamplerRun& run, Floats& x, double eta) {
    each_step(run, x, [&](size_t, double now, double next, const Floats& denoised) {
        const Ancestral step(run.ratio(now), run.ratio(next), eta);
        x = brought(run, x, denoised, now, step.down);
        settle(run, x, next, step.up);
    });
}

void euler(SamplerRun& run, Floats& x) { euler_with(run, x, 0); }
void euler_a(SamplerRun& run, Floats& x) { euler_with(run, x, run.eta < 0 ? 1 : run.eta); }

// DDIM (Song et al. 2021, equation 12): in these coordinates its update is Euler's, and its eta is the renewed noise.
void ddim(SamplerRun& run, Floats& x) { euler_with(run, x, run.eta < 0 ? 0 : run.eta); }

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

// DPM-Solver++(2S) (Lu et al. 2022b) with ancestral noise.
void dpmpp_2s_a(SamplerRun& run, Floats& x) {
    const double eta = run.eta < 0 ? 1 : run.eta;
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
void dpmpp_2m_with(SamplerRun& run, Floats& x, bool v2) {
    Floats before;
    double h_before = 0;
    each_step(run, x, [&](size_t, double now, double next, const Floats& denoised) {
        const double signal = run.signal(next);
        // infinite at the last step, where x becomes the clean estimate, and at a flow's first
        const double h = std::log(run.ratio(now) / run.ratio(next));
        if (before.empty() || next == 0 || !std::isfinite(h_before)) {
            x = mix(next / now, x, -signal * std::expm1(-h), denoised);
        } else {
            const double r = v2 ? std::max(h, h_before) / std::min(h, h_before) : h_before / h;
            const Floats extrapolated = mix(1 + 1 / (2 * r), denoised, -1 / (2 * r), before);
            x = mix(next / now, x, -signal * std::expm1(v2 ? -(h + h_before) / 2 : -h), extrapolated);
        }
        before = denoised;
        h_before = h;
    });
}

void dpmpp_2m(SamplerRun& run, Floats& x) { dpmpp_2m_with(run, x, false); }
void dpmpp_2m_v2(SamplerRun& run, Floats& x) { dpmpp_2m_with(run, x, true); }

// SDE-DPM-Solver++(2M) (Lu et al. 2022b), midpoint form; noise of different steps is independent.
void dpmpp_2m_sde(SamplerRun& run, Floats& x) {
    const double eta = run.eta < 0 ? 1 : run.eta;
    Floats before;
    double h_before = 0;
    each_step(run, x, [&](size_t, double now, double next, const Floats& denoised) {
        if (next == 0) {
            x = denoised;
            return;
        }
        const double signal = run.signal(next), h = std::log(run.ratio(now) / run.ratio(next));
        const double noisy = eta > 0 ? eta * h : 0, part = -signal * std::expm1(-h - noisy);
        x = mix(next / now * std::exp(-noisy), x, part, denoised);
        if (!before.empty()) x = mix(1, x, 0.5 * part * h / h_before, mix(1, denoised, -1, before));
        if (eta > 0) add_noise(run, x, next * std::sqrt(-std::expm1(-2 * noisy)));
        before = denoised;
        h_before = h;
    });
}

// The weight of slope `which` (0 = newest) in a linear multistep from sigmas[at] to sigmas[at + 1]: the integral of its
// Lagrange polynomial, exact by four Gauss-Legendre points.
double multistep_weight(const std::vector<double>& sigmas, size_t at, size_t order, size_t which) {
    constexpr std::array<double, 4> points = {-0.8611363115940526, -0.3399810435848563, 0.3399810435848563,
                                              0.8611363115940526};
    constexpr std::array<double, 4> weights = {0.3478548451374538, 0.6521451548625461, 0.6521451548625461,
                                               0.3478548451374538};
    const double half = (sigmas[at + 1] - sigmas[at]) / 2, middle = (sigmas[at + 1] + sigmas[at]) / 2;
    double sum = 0;
    for (size_t p = 0; p < points.size(); ++p) {
        double product = 1;
        for (size_t k = 0; k < order; ++k)
            if (k != which)
                product *= (middle + half * points[p] - sigmas[at - k]) / (sigmas[at - which] - sigmas[at - k]);
        sum += weights[p] * product;
    }
    return sum * half;
}

// Adds slopes (newest first) with the given weights to x, keeping at most four.
template <typename Weight>
void multistep(Floats& x, std::deque<Floats>& slopes, Floats newest, Weight weight) {
    slopes.push_front(std::move(newest));
    if (slopes.size() > 4) slopes.pop_back();
    for (size_t k = 0; k < slopes.size(); ++k) x = mix(1, x, weight(slopes.size(), k), slopes[k]);
}

// Linear multistep of order 4 (Katherine Crowson, k-diffusion).
void lms(SamplerRun& run, Floats& x) {
    std::deque<Floats> slopes;
    each_step(run, x, [&](size_t i, double now, double, const Floats& denoised) {
        multistep(x, slopes, slope(x, denoised, now),
                  [&](size_t order, size_t k) { return multistep_weight(run.sigmas, i, order, k); });
    });
}

// Adams-Bashforth weights of one to four slopes, for steps of one size.
constexpr std::array<std::array<double, 4>, 4> adams = {{{1, 0, 0, 0},
                                                         {3.0 / 2, -1.0 / 2, 0, 0},
                                                         {23.0 / 12, -16.0 / 12, 5.0 / 12, 0},
                                                         {55.0 / 24, -59.0 / 24, 37.0 / 24, -9.0 / 24}}};

// Pseudo-linear multistep as latent diffusion and diffusers have it (Liu et al. 2022): the first step is Heun's, and
// all steps, the last one too, have Adams-Bashforth weights.
void plms(SamplerRun& run, Floats& x) {
    std::deque<Floats> slopes;
    each_step(run, x, [&](size_t i, double now, double next, const Floats& denoised) {
        Floats newest = slope(x, denoised, now);
        if (i > 0 || run.sigmas.size() <= 2 || next == 0) {
            multistep(x, slopes, std::move(newest),
                      [&](size_t order, size_t k) { return (next - now) * adams[order - 1][k]; });
            return;
        }
        const Floats ahead = mix(1, x, next - now, newest);
        x = mix(1, x, next - now, mix(0.5, newest, 0.5, slope(ahead, run.denoise(ahead, next), next)));
        slopes.push_front(std::move(newest));
    });
}

// Improved pseudo-linear multistep (Zhang & Chen 2023): Adams-Bashforth weights, whatever the step sizes.
void ipndm(SamplerRun& run, Floats& x) {
    std::deque<Floats> slopes;
    each_step(run, x, [&](size_t, double now, double next, const Floats& denoised) {
        if (next == 0) {
            x = denoised;
            return;
        }
        multistep(x, slopes, slope(x, denoised, now),
                  [&](size_t order, size_t k) { return (next - now) * adams[order - 1][k]; });
    });
}

// Latent consistency sampling (Luo et al. 2023): jump to the clean estimate, then back up to the next level of noise.
void lcm(SamplerRun& run, Floats& x) {
    each_step(run, x, [&](size_t, double, double next, const Floats& denoised) {
        x = denoised;
        settle(run, x, next, run.ratio(next));
    });
}

struct Sampler {
    std::string name;
    void (*run)(SamplerRun&, Floats&);
    bool takes_eta = false;
};
const std::vector<Sampler>& samplers() {
    static const std::vector<Sampler> all = {{"euler", euler},
                                             {"euler_a", euler_a, true},
                                             {"heun", heun},
                                             {"dpm2", dpm2},
                                             {"dpm++2s_a", dpmpp_2s_a, true},
                                             {"dpm++2m", dpmpp_2m},
                                             {"dpm++2m_v2", dpmpp_2m_v2},
                                             {"dpm++2m_sde", dpmpp_2m_sde, true},
                                             {"lms", lms},
                                             {"ipndm", ipndm},
                                             {"ddim", ddim, true},
                                             {"lcm", lcm},
                                             {"plms", plms}};
    return all;
}

std::vector<std::string> names_of(bool with_eta) {
    std::vector<std::string> out;
    for (const Sampler& sampler : samplers())
        if (sampler.takes_eta || !with_eta) out.push_back(sampler.name);
    return out;
}

}  // namespace

const std::vector<std::string>& sampler_names() {
    static const std::vector<std::string> names = names_of(false);
    return names;
}

const std::vector<std::string>& samplers_with_eta() {
    static const std::vector<std::string> names = names_of(true);
    return names;
}

void run_sampler(const std::string& sampler, SamplerRun& run, Floats& x) {
    require_name(OptionName{"sampler"}, sampler, sampler_names());
    for (size_t i = 0; i + 1 < run.sigmas.size(); ++i)
        if (!(run.sigmas[i] > run.sigmas[i + 1]) || !(run.sigmas[i + 1] >= 0) || !std::isfinite(run.sigmas[i]))
            fail(SDCPP_INVALID_ARGUMENT, "sigmas must fall, and none be negative or NaN");
    for (const Sampler& one : samplers())
        if (one.name == sampler) one.run(run, x);
}

}  // namespace sdcpp
