#include "generation/start.h"

#include <doctest/doctest.h>

#include "base/error.h"

using namespace sdcpp;

namespace {

std::vector<double> steps_of(int count) {
    std::vector<double> out;
    for (int i = count; i >= 0; --i) out.push_back(i);
    return out;
}

size_t evaluations(int steps, double strength) {
    const auto rng = make_rng("cpu", 1);
    Start start;
    start.latent = {0};
    start.strength = strength;
    return start.begin(steps_of(steps), *rng, 1, 1, false).sigmas.size() - 1;
}

}  // namespace

TEST_CASE("noise alone, or noise over latents") {
    const Floats noise = {1, -1}, latent = {4, 8};
    CHECK(noised(noise, {}, 3, false) == Floats{3, -3});
    CHECK(noised(noise, latent, 0.5, false) == Floats{4.5f, 7.5f});
    CHECK(noised(noise, latent, 0.5, true) == Floats{2.5f, 3.5f});
}

TEST_CASE("a run without a latent is the whole schedule, whatever the strength") {
    const auto rng = make_rng("cpu", 1);
    Start start;
    start.noise = {2};
    start.strength = 0.1;
    const auto begun = start.begin(steps_of(4), *rng, 1, 2, false);
    CHECK(begun.sigmas == steps_of(4));
    CHECK(begun.x == Floats{8, 8});
}

TEST_CASE("strength is the share of the schedule that a latent goes through") {
    // Measured with stable-diffusion.cpp, of 8 steps.
    const std::vector<std::pair<double, size_t>> known = {{0, 1},   {.05, 1}, {.1, 1}, {.5, 5},
                                                          {.75, 7}, {.99, 8}, {1, 8}};
    for (const auto& [strength, count] : known) CHECK(evaluations(8, strength) == count);
    for (int steps = 1; steps <= 50; ++steps)
        for (int hundredths = 0; hundredths <= 100; ++hundredths) {
            const double strength = hundredths / 100.0;
            // Stable Diffusion web UI: int(min(strength, .999) * steps) + 1.
            const auto web = static_cast<size_t>(std::min(strength, .999) * steps) + 1;
            CHECK(evaluations(steps, strength) == web);
        }
}

TEST_CASE("each picture of a batch may have its own noise and latent") {
    const auto rng = make_rng("cpu", 1);
    Start start;
    start.noise = {1, 2};
    start.latent = {10, 20};
    start.strength = 0;
    const auto begun = start.begin({4, 3, 0}, *rng, 1, 2, false);
    CHECK(begun.sigmas == std::vector<double>{3, 0});
    CHECK(begun.x == Floats{13, 26});
    CHECK_THROWS_AS(start.begin({4, 3, 0}, *rng, 1, 3, false), Error);
    start.strength = 1.5;
    CHECK_THROWS_AS(start.begin({4, 3, 0}, *rng, 1, 2, false), Error);
}

TEST_CASE("noise that is not given is the generator's") {
    const auto one = make_rng("cpu", 7), other = make_rng("cpu", 7);
    Floats drawn(3);
    other->normal(drawn);
    for (float& value : drawn) value *= 2;
    CHECK(Start{}.begin({2, 0}, *one, 3, 1, false).x == drawn);
}
