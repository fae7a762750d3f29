// Methods that are made for noise that is renewed at each step.
#include <algorithm>
#include <utility>

#include "generation/samplers/all.h"
#include "generation/samplers/steps.h"
#include "generation/schedule.h"

namespace sdcpp {

// Latent consistency sampling (Luo et al. 2023): jump to the clean estimate, then back up to the next level of noise.
void lcm(SamplerRun& run, Floats& x) {
    each_step(run, x, [&](size_t, double, double next, const Floats& denoised) {
        x = denoised;
        settle(run, x, next, run.ratio(next));
    });
}

// Trajectory consistency sampling (Zheng et al. 2024, arXiv 2402.19159): jump below the next level, to (1 - eta) of its
// timestep, then back up with new noise.
void tcd(SamplerRun& run, Floats& x) {
    const NoiseTable usual;
    const NoiseTable& table = run.table ? *run.table : usual;
    const double eta = run.eta_or(0);
    each_step(run, x, [&](size_t, double now, double next, const Floats& denoised) {
        double down = next;
        if (eta > 0 && next > 0) {
            const double time = table.timestep_of(next) * (1 - eta);
            down = run.flow ? time / 1000 : table.sigma_of(std::floor(time + 1e-4));
        }
        const double to = run.ratio(next), ratio = std::min(run.ratio(down), to);
        x = brought(run, x, denoised, now, ratio);
        constexpr double same = 1 - 1e-6;  // levels come from users, rounded to f32
        settle(run, x, next, ratio < same * to ? std::sqrt(to * to - ratio * ratio) : 0);
    });
}

// ER-SDE-3 (Cui et al. 2023, arXiv 2309.06169), in the ratio of noise to signal: the extended reverse equation, with
// the estimate's first and second differences.
void er_sde(SamplerRun& run, Floats& x) {
    const double eta = run.eta_or(1);
    const auto f = [](double y) { return y * (std::exp(std::pow(y, 0.3)) + 10); };
    Floats before, change_before;  // the last estimate, and its change by ratio
    double from_before = 0, from_earlier = 0;
    each_step(run, x, [&](size_t i, double now, double next, const Floats& denoised) {
        if (next == 0) {
            x = denoised;
            return;
        }
        const double from = run.ratio(now), to = run.ratio(next), signal = run.signal(next);
        const double kept = std::isfinite(from) ? f(to) / f(from) : 0;
        const double scale = std::isfinite(from) ? kept * signal / run.signal(now) : 0;
        x = mix(scale, x, (1 - kept) * signal, denoised);
        Floats change;
        if (i > 0 && std::isfinite(from_before)) {
            constexpr int points = 200;
            const double width = (from - to) / points, whole = to - from;
            double sum = 0, moment = 0;
            for (int p = 0; p < points; ++p) {
                const double place = to + p * width;
                sum += width / f(place);
                moment += (place - from) * width / f(place);
            }
            const double run_back = from - from_before;
            change = mix(1 / run_back, denoised, -1 / run_back, before);
            x = mix(1, x, signal * (whole + f(to) * sum), change);
            if (!change_before.empty()) {
                const double half = (from - from_earlier) / 2;
                const Floats bend = mix(1 / half, change, -1 / half, change_before);
                x = mix(1, x, signal * (whole * whole / 2 + f(to) * moment), bend);
            }
        }
        const double left = std::isfinite(from) ? from * kept : 0;
        if (eta > 0) add_noise(run, x, eta * signal * std::sqrt(std::max(0.0, to * to - left * left)));
        before = denoised;
        change_before = std::move(change);
        from_earlier = std::exchange(from_before, from);
    });
}

}  // namespace sdcpp
