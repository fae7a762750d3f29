#include "generation/samplers/steps.h"

#include <algorithm>

namespace sdcpp {

Floats mix(double a, const Floats& x, double b, const Floats& y) {
    Floats out(x.size());
    for (size_t i = 0; i < x.size(); ++i) out[i] = static_cast<float>(a * x[i] + b * y[i]);
    return out;
}

Floats slope(const Floats& x, const Floats& denoised, double sigma) { return mix(1 / sigma, x, -1 / sigma, denoised); }

void add_noise(SamplerRun& run, Floats& x, double amount) {
    Floats noise(x.size());
    run.rng.normal(noise);
    for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(x[i] + amount * noise[i]);
}

Ancestral::Ancestral(double from, double to, double eta) {
    up = std::min(to, eta * to * std::sqrt(1 - (to / from) * (to / from)));
    down = std::sqrt(to * to - up * up);
}

Floats brought(const SamplerRun& run, const Floats& x, const Floats& denoised, double now, double ratio) {
    return mix(ratio / now, x, 1 - ratio * run.signal(now) / now, denoised);
}

void settle(SamplerRun& run, Floats& x, double sigma, double up) {
    if (up > 0) add_noise(run, x, up);
    if (run.flow)
        for (float& value : x) value = static_cast<float>(run.signal(sigma) * value);
}

Floats first_order(const SamplerRun& run, const Floats& x, const Floats& denoised, double now, double next) {
    return mix(next / now, x, -run.signal(next) * std::expm1(-log_step(run, now, next)), denoised);
}

}  // namespace sdcpp
