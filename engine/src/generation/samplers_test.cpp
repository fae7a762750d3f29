// Samplers on a problem whose solution is known.
#include <doctest/doctest.h>

#include <cmath>

#include "generation/samplers.h"
#include "generation/schedule.h"

using namespace sdcpp;

// For data of variance 1 the clean estimate is x / (1 + sigma^2), and the exact path ends at x / sqrt(1 + sigma_max^2).
TEST_CASE("samplers converge to the exact solution") {
    for (const std::string& name : sampler_names()) {
        if (name == "lcm" || name == "er_sde") continue;  // which renew noise whatever eta is
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

// One step from 2 to 1: the clean estimate is 3, the negative prompt's 1, x is 5.
TEST_CASE("CFG++ puts the negative prompt's noise back") {
    const auto rng = make_rng("cuda", 1);
    const Floats negative = {1};
    SamplerRun run{[](const Floats&, double) { return Floats{3}; }, {2, 1}, *rng, 0.0};
    run.negative = &negative;
    for (const char* name : {"euler_cfg_pp", "euler_a_cfg_pp"}) {
        Floats x = {5};
        run_sampler(name, run, x);
        CHECK(x[0] == doctest::Approx(3 + 1 * (5 - 1) / 2.0));
    }
    run.flow = true;  // x = (1 - sigma) * clean + sigma * noise
    run.sigmas = {0.8, 0.5};
    Floats x = {5};
    run_sampler("euler_cfg_pp", run, x);
    CHECK(x[0] == doctest::Approx(0.5 * 3 + 0.5 * (5 - 0.2 * 1) / 0.8));
}
