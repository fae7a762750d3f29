// Step caches against a network whose predictions are known.
#include <doctest/doctest.h>

#include <cmath>

#include "generation/step_cache.h"

using namespace sdcpp;

namespace {

const std::vector<double> sigmas = {1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0};

// A prediction that is a straight line in the step, for two guides.
struct Network {
    int runs = 0;
    double slope = 0.1;
    Floats operator()(const Floats& x, double sigma, const std::vector<size_t>& which) {
        ++runs;
        Floats out;
        for (const size_t one : which)
            for (size_t i = 0; i < x.size(); ++i)
                out.push_back(static_cast<float>(1.0 + static_cast<double>(one) +
                                                 slope * static_cast<double>(step_of(sigma, sigmas))));
        return out;
    }
};

std::vector<Floats> run(const CacheOptions& options, Network& network, CacheCount& count, Others others = nullptr) {
    const PredictFor predict =
        cached([&](const Floats& x, double s, const std::vector<size_t>& w) { return network(x, s, w); }, options,
               sigmas, true, others, count);
    std::vector<Floats> out;
    for (size_t step = 0; step + 1 < sigmas.size(); ++step)
        out.push_back(predict({static_cast<float>(1 + 0.01 * static_cast<double>(step)), 0.5f}, sigmas[step], {0, 1}));
    return out;
}

}  // namespace

TEST_CASE("without a cache, or with a threshold of 0, every step is computed") {
    for (const CacheOptions& options : {CacheOptions{}, CacheOptions{.mode = "easycache", .threshold = 0}}) {
        Network network;
        CacheCount count;
        run(options, network, count);
        CHECK(network.runs == 10);
        CHECK(count.skipped == 0);
    }
}

TEST_CASE("EasyCache skips steps while predictions change little, within its share of the steps") {
    Network network{.slope = 0.02};
    CacheCount count;
    const auto found = run({.mode = "easycache", .threshold = 0.05, .start = 0.3, .end = 0.9}, network, count);
    CHECK(count.skipped > 2);
    CHECK(network.runs == 10 - count.skipped);
    // a prediction that is not computed still follows the network's input
    for (size_t step = 0; step < 3; ++step)
        CHECK(found[step][0] == doctest::Approx(1 + 0.02 * static_cast<double>(step)));
    CHECK(found[9][0] == doctest::Approx(1 + 0.02 * 9));
    Network fast{.slope = 3};
    CacheCount none;
    run({.mode = "easycache", .threshold = 0.05}, fast, none);
    CHECK(none.skipped == 0);
}

TEST_CASE("TaylorSeer goes on along the line between computed steps") {
    Network network;
    CacheCount count;
    const auto found = run({.mode = "taylorseer", .start = 0, .end = 1, .interval = 3, .order = 1}, network, count);
    CHECK(count.skipped >= 5);
    for (size_t step = 0; step < found.size(); ++step)
        for (size_t guide : {size_t{0}, size_t{1}})
            CHECK(found[step][2 * guide] ==
                  doctest::Approx(1.0 + static_cast<double>(guide) + 0.1 * static_cast<double>(step)).epsilon(1e-5));
}

TEST_CASE("a cache begins anew when something else takes part in the steps") {
    const Others late = [](size_t step) { return std::vector<bool>{step >= 5}; };
    for (const CacheOptions& options : {CacheOptions{.mode = "easycache", .threshold = 9, .start = 0, .end = 1},
                                        CacheOptions{.mode = "taylorseer", .start = 0, .end = 1, .interval = 9}}) {
        Network usual{.slope = 0.02}, changing{.slope = 0.02};
        CacheCount saved, less;
        run(options, usual, saved);
        run(options, changing, less, late);
        CHECK(saved.skipped == 8);  // it learns from two steps
        CHECK(less.skipped == 6);
    }
}
