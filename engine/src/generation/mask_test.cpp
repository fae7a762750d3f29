// Inpainting on numbers that can be followed.
#include "generation/mask.h"

#include <doctest/doctest.h>

using namespace sdcpp;

TEST_CASE("what is kept is seen under its noise, and estimated as itself") {
    for (const bool flow : {false, true}) {
        const Kept kept{{1, 2, 3}, {10, 20, 30}, {1, 0, 0.5f}, flow};
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
    const Kept kept{{0, 0, 0}, {0, 0, 0}, {1, 0.5f, 0}, false, [](double sigma) { return sigma; }};
    const Denoise denoise = masked([](const Floats& x, double) { return Floats(x.size(), 7); }, kept);
    CHECK(denoise({1, 1, 1}, 0.9) == Floats{7, 0, 0});
    CHECK(denoise({1, 1, 1}, 0.5) == Floats{7, 7, 0});
    Floats x = {5, 5, 5};
    put_back(x, kept);
    CHECK(x == Floats{5, 5, 0});
}
