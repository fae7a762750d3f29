// What a mask keeps.
#include "generation/mask.h"

#include <doctest/doctest.h>

#include <cmath>

using namespace sdcpp;

TEST_CASE("what is kept is seen under its noise, and estimated as itself") {
    for (const bool flow : {false, true}) {
        Kept kept;
        kept.latent = {1, 2, 3};
        kept.noise = {10, 20, 30};
        kept.mask = {1, 0, 0.5f};
        kept.flow = flow;
        Floats seen;
        const Denoise denoise = masked(
            [&](const Floats& x, double) {
                seen = x;
                return Floats{7, 7, 7};
            },
            kept);
        const Floats estimate = denoise({100, 100, 100}, 0.5);
        const float second = flow ? 2 * 0.5f + 10 : 2 + 10, third = flow ? 3 * 0.5f + 15 : 3 + 15;
        CHECK(seen[0] == 100);
        CHECK(seen[1] == doctest::Approx(second));
        CHECK(seen[2] == doctest::Approx(50 + third / 2));
        CHECK(estimate == Floats{7, 2, 5});
        Floats x = {100, 100, 100};
        put_back(x, kept);
        CHECK(x == Floats{100, 2, 51.5f});
    }
}

TEST_CASE("a soft mask is a threshold that falls") {
    Kept kept;
    kept.latent = kept.noise = {0, 0, 0};
    kept.mask = {1, 0.5f, 0};
    kept.threshold = [](double sigma) { return sigma; };
    const Denoise denoise = masked([](const Floats& x, double) { return Floats(x.size(), 7); }, kept);
    CHECK(denoise({1, 1, 1}, 0.9) == Floats{7, 0, 0});
    CHECK(denoise({1, 1, 1}, 0.5) == Floats{7, 7, 0});
    Floats x = {5, 5, 5};
    put_back(x, kept);
    CHECK(x == Floats{5, 5, 0});
}

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
