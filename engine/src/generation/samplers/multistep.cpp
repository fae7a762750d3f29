// Linear multistep methods: what the last steps saw says where the next one goes.
#include <algorithm>
#include <array>
#include <deque>
#include <utility>

#include "generation/samplers/all.h"
#include "generation/samplers/steps.h"

namespace sdcpp {

// The weight of slope `which` (0 = newest) in a linear multistep from sigmas[at] to sigmas[at + 1]: the integral of its
// Lagrange polynomial, exact by four Gauss-Legendre points.
static double multistep_weight(const std::vector<double>& sigmas, size_t at, size_t order, size_t which) {
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
static void multistep(Floats& x, std::deque<Floats>& slopes, Floats newest, Weight weight) {
    slopes.push_front(std::move(newest));
    if (slopes.size() > 4) slopes.pop_back();
    for (size_t k = 0; k < slopes.size(); ++k) x = mix(1, x, weight(slopes.size(), k), slopes[k]);
}

// All steps with weights for the step sizes that there are. `ends_clean`: the last step is the clean estimate.
static void with_exact_weights(SamplerRun& run, Floats& x, bool ends_clean) {
    std::deque<Floats> slopes;
    each_step(run, x, [&](size_t i, double now, double next, const Floats& denoised) {
        if (ends_clean && next == 0) {
            x = denoised;
            return;
        }
        multistep(x, slopes, slope(x, denoised, now),
                  [&](size_t order, size_t k) { return multistep_weight(run.sigmas, i, order, k); });
    });
}

// Linear multistep of order 4 (Katherine Crowson, k-diffusion).
void lms(SamplerRun& run, Floats& x) { with_exact_weights(run, x, false); }

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

// DEIS with polynomials in sigma (Zhang & Chen 2022, arXiv 2204.13902).
void ipndm_v(SamplerRun& run, Floats& x) { with_exact_weights(run, x, true); }

// The integral of (log(rho) - a) / (b - a) up to `rho`.
static double log_integral(double rho, double a, double b) {
    return rho > 0 ? rho * (std::log(rho) - 1 - a) / (b - a) : 0;
}

// DEIS of second order with polynomials in log(rho), rho the ratio of noise to signal, as diffusers has it.
void deis(SamplerRun& run, Floats& x) {
    Floats before;
    double earlier = 0;
    each_step(run, x, [&](size_t, double now, double next, const Floats& denoised) {
        const double from = run.ratio(now), to = run.ratio(next);
        const Floats noise = mix(1 / now, x, -run.signal(now) / now, denoised);
        if (before.empty() || next == 0 || !std::isfinite(earlier)) {
            x = first_order(run, x, denoised, now, next);
        } else {
            const double a = std::log(from), b = std::log(earlier);
            const double near = log_integral(to, b, a) - log_integral(from, b, a);
            const double far = log_integral(to, a, b) - log_integral(from, a, b);
            x = mix(run.signal(next) / run.signal(now), x, run.signal(next), mix(near, noise, far, before));
        }
        before = noise;
        earlier = from;
    });
}

// The refined exponential solver as a multistep method (Zhang et al. 2023, arXiv 2308.02157).
void res_multistep(SamplerRun& run, Floats& x) {
    Floats before;
    double h_before = 0;
    each_step(run, x, [&](size_t, double now, double next, const Floats& denoised) {
        const double h = log_step(run, now, next);
        if (before.empty() || !std::isfinite(h) || !std::isfinite(h_before)) {
            x = first_order(run, x, denoised, now, next);
        } else {
            const double first = -std::expm1(-h) / h;    // the function phi 1 of -h
            const double old = -(1 - first) / h_before;  // phi 2 of -h over the old estimate's place, -h_before / h
            x = mix(next / now, x, run.signal(next) * h, mix(first - old, denoised, old, before));
        }
        before = denoised;
        h_before = h;
    });
}

// UniPC of second order, its B(h) = exp(h) - 1 (Zhao et al. 2023, arXiv 2302.04867): each estimate first corrects the
// step that led to it.
void unipc(SamplerRun& run, Floats& x) {
    Floats start, before, earlier;  // the last step's start; the estimates there and at the step before
    double now_before = 0, h_before = 0, h_earlier = 0;
    size_t order_before = 0;
    // from `at`, with the estimate there and `old` a step of `h_old` before; `ahead`: the estimate at the end, if known
    const auto stepped = [&](const Floats& at, double now, double next, const Floats& estimate, const Floats& old,
                             double h_old, size_t order, const Floats* ahead) {
        const double h = log_step(run, now, next), whole = std::expm1(-h);
        Floats out = first_order(run, at, estimate, now, next);
        const double scale = -run.signal(next) * whole;
        const double b1 = (whole / -h - 1) / whole, b2 = ((whole / -h - 1) / -h - 0.5) * 2 / whole;
        const double r = order > 1 ? -h_old / h : 0;
        double last = 0.5, first = 0.5;  // weights of the differences at the end, and at the step before
        if (ahead && order > 1) {        // the two that meet b1 and b2
            last = (b2 - r * b1) / (1 - r);
            first = b1 - last;
        }
        if (order > 1) out = mix(1, out, scale * first / r, mix(1, old, -1, estimate));
        if (ahead) out = mix(1, out, scale * last, mix(1, *ahead, -1, estimate));
        return out;
    };
    const size_t steps = run.sigmas.size() - 1;
    each_step(run, x, [&](size_t i, double now, double next, const Floats& denoised) {
        if (i > 0 && std::isfinite(h_before))
            x = stepped(start, now_before, now, before, earlier, h_earlier, order_before, &denoised);
        const double h = log_step(run, now, next);
        const size_t order = i > 0 && i + 1 < steps && std::isfinite(h) && std::isfinite(h_before) ? 2 : 1;
        start = x;
        x = std::isfinite(h) ? stepped(x, now, next, denoised, before, h_before, order, nullptr)
                             : first_order(run, x, denoised, now, next);
        earlier = std::exchange(before, denoised);
        h_earlier = std::exchange(h_before, h);
        now_before = now;
        order_before = order;
    });
}

}  // namespace sdcpp
