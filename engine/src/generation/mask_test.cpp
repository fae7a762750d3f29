// What a mask keeps.
#include "generation/mask.h"

#include <doctest/doctest.h>

#include <cmath>

using namespace sdcpp;

TEST_CASE("soft inpainting mixes directions by the mask to a power of sigma, and lengths by theirs") {
    Kept kept;  // two channels, three places: repainted, half, kept
    kept.latent = {1, 3, 5, 2, 4, 6};
    kept.mask = {1, 0.5f, 0, 1, 0.5f, 0};
    kept.channels = 2;
    kept.soft = {.on = true, .bias = 2, .preservation = 0.5, .contrast = 4};
    const Floats made = {-1, 0, 9, 7, 10, 9};
    const Floats out = masked([&](const Floats&, double) { return made; }, kept)({0, 0, 0, 0, 0, 0}, 3);
    CHECK(out[0] == -1);
    CHECK(out[3] == 7);
    CHECK(out[2] == 5);
    CHECK(out[5] == 6);
    const double share = std::pow(0.5, std::pow(3, 2) * 0.5);
    const double x = (1 - share) * 3, y = (1 - share) * 4 + share * 10;
    const double length = std::pow((1 - share) * std::pow(5, 4) + share * std::pow(10, 4), 0.25);
    CHECK(out[1] == doctest::Approx(x * length / std::hypot(x, y)));
    CHECK(out[4] == doctest::Approx(y * length / std::hypot(x, y)));
    Floats end = out;
    put_back(end, kept);
    CHECK(end == out);
}
