// Denoisers made of denoisers, against formulas written out.
#include <doctest/doctest.h>

#include <cmath>

#include "generation/denoise.h"
#include "tests/throws.h"

using namespace sdcpp;

namespace {

bool near(double a, double b) { return std::abs(a - b) < 1e-5; }

}  // namespace

TEST_CASE("each kind of prediction leads back to the clean value") {
    const double clean = 0.7, noise = -1.3, sigma = 0.4;
    const auto estimate = [&](double x, double prediction, Predicts what) {
        const Predict network = [=](const Floats&, double) { return std::vector<double>{prediction}; };
        return predicted(network, what)({static_cast<float>(x)}, sigma).front();
    };
    CHECK(near(estimate(clean + sigma * noise, noise, Predicts::noise), clean));
    CHECK(near(estimate((1 - sigma) * clean + sigma * noise, noise - clean, Predicts::velocity), clean));
    const double length = std::sqrt(1 + sigma * sigma);  // on the unit circle, signal and noise are 1 and sigma by it
    CHECK(near(estimate(clean + sigma * noise, noise / length - clean * sigma / length, Predicts::v), clean));
}

TEST_CASE("guidance goes from the negative through the positive, by weights, in its share of the steps") {
    const std::vector<double> sigmas = {8, 4, 2, 1, 0};
    std::vector<std::vector<size_t>> asked;
    const PredictFor predict = [&](const Floats&, double, const std::vector<size_t>& which) {
        asked.push_back(which);
        Floats out;
        for (const size_t number : which) out.push_back(static_cast<float>(number + 1));
        return out;
    };
    const auto at = [&](const std::vector<Guide>& guides, double scale, double sigma) {
        const Guided combine({.scale = scale}, Predicts::noise, 1, 1);
        return guided(predict, guides, combine, sigmas)({0}, sigma).front();
    };
    CHECK(at({{}, {.negative = true}}, 7, 8) == doctest::Approx(2 + 7 * (1 - 2)));
    CHECK(at({{}, {.negative = true}}, 1, 8) == 1);
    CHECK(asked.back() == std::vector<size_t>{0});
    CHECK(at({{.weight = 3}, {.weight = 1}}, 7, 8) == doctest::Approx(0.75 * 1 + 0.25 * 2));
    // several prompts: each leads away from the negative by its own weight
    CHECK(at({{.weight = 0.5}, {.weight = 2}, {.negative = true}}, 7, 8) ==
          doctest::Approx(3 + 7 * (0.5 * (1 - 3) + 2 * (2 - 3))));
    CHECK(at({{.weight = 0.5}, {.negative = true}}, 1, 8) == doctest::Approx(2 + 0.5 * (1 - 2)));
    CHECK(throws(SDCPP_INVALID_ARGUMENT, [&] { (void)at({{.weight = 1}, {.weight = -1}}, 7, 8); }));
    // the second half of the steps, sigmas between two of the schedule included
    const std::vector<Guide> late = {{}, {.negative = true, .start = 0.5}};
    for (const double sigma : {8.0, 4.0, 2.5}) CHECK(at(late, 7, sigma) == 1);
    for (const double sigma : {2.0, 1.5, 1.0}) CHECK(at(late, 7, sigma) == doctest::Approx(2 - 7));
    CHECK(throws(SDCPP_INVALID_ARGUMENT, [&] { (void)at({{.end = 0.5}}, 7, 1); }));
}

TEST_CASE("guides that skip blocks are asked last, in their share of the steps, with the positives' weights") {
    std::vector<std::vector<size_t>> asked;
    const PredictFor predict = [&](const Floats&, double, const std::vector<size_t>& which) {
        asked.push_back(which);
        Floats out;
        for (const size_t number : which) out.push_back(static_cast<float>(number * number + 1));
        return out;
    };
    const std::vector<Guide> guides = {{.weight = 0.5}, {.negative = true}, {.weight = 0.5, .skips_blocks = true}};
    const Guided combine({.scale = 7, .skip_scale = 3, .skip_start = 0.2, .skip_end = 0.6}, Predicts::noise, 1, 1);
    const Predict whole = guided(predict, guides, combine, {8, 4, 2, 1, 0});
    const double plain = 2 + 7 * 0.5 * (1 - 2);
    CHECK(whole({0}, 8).front() == doctest::Approx(plain));
    CHECK(asked.back() == std::vector<size_t>{0, 1});
    CHECK(whole({0}, 4).front() == doctest::Approx(plain + 3 * 0.5 * (1 - 5)));
    CHECK(asked.back() == std::vector<size_t>{0, 1, 2});
    CHECK(whole({0}, 1).front() == doctest::Approx(plain));
}
