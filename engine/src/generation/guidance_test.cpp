// Ways to guide, against the functions of diffusers' guiders and PyTorch. Their projected guidance counts a scale that
// is less by one.
#include <doctest/doctest.h>

#include <cmath>

#include "generation/guidance.h"

using namespace sdcpp;

namespace {

// Two pictures of two channels and two places.
const std::vector<double> positive = {0.5, -1, 2, 0.25, 1.5, -0.5, 0.75, -2};
const std::vector<double> negative = {0.25, -0.5, 1, 0.5, -1, 0.5, 0.25, -1};
const Floats x = {1, 2, -1, 0.5f, 0.25f, -0.75f, 3, 1.5f};
const std::vector<double> none;
constexpr double sigma = 2, scale = 4;

void check(const std::vector<double>& found, const std::vector<double>& wanted) {
    REQUIRE(found.size() == wanted.size());
    for (size_t i = 0; i < found.size(); ++i) CHECK(found[i] == doctest::Approx(wanted[i]).epsilon(1e-5));
}

std::vector<double> guided(Guidance how, Predicts what = Predicts::noise) {
    how.scale = scale;
    return Guided(how, what, 2, 2)({positive, negative, none}, x, sigma, 0);
}

}  // namespace

TEST_CASE("guidance alone goes from the negative through the positive") {
    std::vector<double> wanted(x.size());
    for (size_t i = 0; i < wanted.size(); ++i) wanted[i] = negative[i] + scale * (positive[i] - negative[i]);
    check(guided({}), wanted);
    // neutral values of the others change nothing
    check(guided({.mimic_scale = scale}), wanted);
    check(guided({.norm_threshold = 1e6}), wanted);
}

TEST_CASE("rescaled guidance has a share of the positive's deviation") {
    check(guided({.rescale = 0.7}),
          {0.713276, -1.426553, 2.853105, -0.285311, 4.217715, -1.640223, 1.054429, -2.343175});
}

TEST_CASE("CFG-Zero* scales the negative to the positive, and begins with zeros") {
    const Guidance how{.zero_star = true, .zero_steps = 0};
    check(guided(how), {0.68, -1.36, 2.72, -1.64, 6.567568, -2.283784, 2.858108, -7.432432});
    Guided two({.scale = scale, .zero_star = true, .zero_steps = 2}, Predicts::velocity, 2, 2);
    for (const size_t step : {size_t{0}, size_t{1}})
        check(two({positive, negative, none}, x, sigma, step), std::vector<double>(x.size(), 0.0));
    CHECK(two({positive, negative, none}, x, sigma, 2)[0] != 0);
}

TEST_CASE("projected guidance weakens what is parallel to the estimate, and has momentum and a greatest norm") {
    const Guidance how{.scale = scale, .parallel = 0.3, .momentum = -0.5, .norm_threshold = 1.5};
    Guided twice(how, Predicts::noise, 2, 2);
    check(twice({positive, negative, none}, x, sigma, 0),
          {0.979702, -1.04212, 2.772203, -0.229702, 2.989694, -1.231774, 1.375689, -1.892413});
    check(twice({positive, negative, none}, x, sigma, 1),
          {0.875, -1.032927, 2.603659, -0.125, 2.989694, -1.231774, 1.375689, -1.892413});
    check(guided({.parallel = 0.3}, Predicts::v),
          {1.007414, -1.229804, 3.048376, -0.621293, 6.49765, -2.924196, 2.112797, -0.953175});
}

TEST_CASE("dynamic thresholding keeps the range of a smaller scale") {
    check(guided({.mimic_scale = 2, .percentile = 0.9, .phi = 0.8}), {0.65, -1.9, 4.0, 0.5, 6.2, -0.7, 1.05, -3.8});
}

TEST_CASE("skip-layer guidance leads away from what is made without some layers, with a negative side or without") {
    const std::vector<double> skipped = {0.4, -0.5, 1.5, 0.25, 1, -1, 0.5, -1};
    std::vector<double> both, alone;
    for (size_t i = 0; i < x.size(); ++i) {
        const double away = 2.8 * (positive[i] - skipped[i]);
        both.push_back(negative[i] + scale * (positive[i] - negative[i]) + away);
        alone.push_back(positive[i] + away);
    }
    const Guidance how{.scale = scale, .skip_scale = 2.8};
    check(Guided(how, Predicts::velocity, 2, 2)({positive, negative, skipped}, x, sigma, 0), both);
    check(Guided(how, Predicts::velocity, 2, 2)({positive, none, skipped}, x, sigma, 0), alone);
    CHECK_FALSE(how.skips_at(0));
    CHECK(how.skips_at(0.05));
    CHECK_FALSE(how.skips_at(0.2));
}

TEST_CASE("each patch of the guided prediction may keep the positive's norm") {
    const std::vector<double> plain = guided({});
    std::vector<double> wanted(x.size());
    for (size_t picture = 0; picture < 2; ++picture)
        for (size_t place = 0; place < 2; ++place) {
            const size_t first = 4 * picture + place, second = first + 2;  // the place's two channels
            const double ratio =
                std::hypot(positive[first], positive[second]) / std::hypot(plain[first], plain[second]);
            for (const size_t i : {first, second}) wanted[i] = plain[i] * (0.75 * ratio + 0.25);
        }
    check(guided({.norm = 0.75, .patch = 1, .columns = 2}), wanted);
}

TEST_CASE("patches of two by two places are normed together, each with all its channels") {
    // one picture of two channels, four by four places: four patches of eight values
    std::vector<double> to(32), from(32);
    for (size_t i = 0; i < to.size(); ++i) {
        to[i] = std::sin(1.0 + static_cast<double>(i));
        from[i] = std::cos(2.0 * static_cast<double>(i));
    }
    const Guidance how{.scale = 3, .norm = 1, .patch = 2, .columns = 4};
    const auto found = Guided(how, Predicts::velocity, 1, 2)({to, from, none}, Floats(32), sigma, 0);
    for (size_t top = 0; top < 4; top += 2)
        for (size_t left = 0; left < 4; left += 2) {
            double given = 0, wanted = 0;
            for (size_t channel = 0; channel < 2; ++channel)
                for (const size_t place : {size_t{0}, size_t{1}, size_t{4}, size_t{5}}) {
                    const size_t i = 16 * channel + 4 * top + left + place;
                    given += found[i] * found[i];
                    wanted += to[i] * to[i];
                }
            CHECK(given == doctest::Approx(wanted).epsilon(1e-5));
        }
}
