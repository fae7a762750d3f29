// Samplers on a problem whose solution is known.
#include <doctest/doctest.h>

#include <cmath>

#include "generation/samplers.h"
#include "generation/schedule.h"

using namespace sdcpp;

// For data of variance 1 the clean estimate is x / (1 + sigma^2), and the exact path ends at x / sqrt(1 + sigma_max^2).
TEST_CASE("samplers converge to the exact solution") {
    for (const std::string& name : sampler_names()) {
        if (name == "lcm") continue;
        const auto rng = make_rng("cuda", 1);
        const auto denoise = [](const Floats& x, double sigma) {
            Floats out(x);
            for (float& value : out) value = static_cast<float>(value / (1 + sigma * sigma));
            return out;
        };
        SamplerRun run{denoise, make_sigmas("karras", 200, NoiseTable()), *rng, 0.0};
        const double first = run.sigmas.front();
        Floats x = {static_cast<float>(first)};
        run_sampler(name, run, x);
        CHECK_MESSAGE(std::abs(x[0] - first / std::sqrt(1 + first * first)) < 0.02, name.c_str());
    }
}
