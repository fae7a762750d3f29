// Brownian motions: numpy's seeds, and what must hold of any.
#include "generation/brownian.h"

#include <doctest/doctest.h>

#include <cmath>

using namespace sdcpp;

TEST_CASE("seeds are those of numpy's SeedSequence") {
    // numpy.random.SeedSequence(…, pool_size=24).generate_state(…)
    CHECK(seed_words(5, {}, 3) == std::vector<uint32_t>{3154616629u, 1086096781u, 1700057493u});
    CHECK(seed_words(5, {1, 2}, 2) == std::vector<uint32_t>{4061828038u, 1174565413u});
    CHECK(seed_words(uint64_t{1} << 40 | 7, {uint64_t{1} << 33, 0}, 1) == std::vector<uint32_t>{2816953488u});
}

TEST_CASE("a motion's steps add up, whatever their number, and spread as the time between them") {
    const BrownianTree tree({"cuda", 3}, 0.03, 14.6, 4096);
    const Floats whole = tree.step(14.6, 0.03), first = tree.step(14.6, 5), second = tree.step(5, 0.03);
    double squares = 0;
    for (size_t i = 0; i < whole.size(); ++i) {
        const double sum = first[i] * std::sqrt(9.6) + second[i] * std::sqrt(4.97);
        CHECK(sum == doctest::Approx(whole[i] * std::sqrt(14.57)).epsilon(1e-4));
        squares += static_cast<double>(second[i]) * second[i];
    }
    CHECK(squares / 4096 == doctest::Approx(1).epsilon(0.1));
}
