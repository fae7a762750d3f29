#include "generation/guidance.h"

#include <algorithm>
#include <cmath>
#include <span>

namespace sdcpp {
namespace {

using Doubles = std::vector<double>;
using Part = std::span<double>;
using Seen = std::span<const double>;

double dot(Seen a, Seen b) {
    double sum = 0;
    for (size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
    return sum;
}

// Of the values about their mean, with one less than their number as divisor, as PyTorch counts.
double deviation(Seen values) {
    double mean = 0, sum = 0;
    for (const double value : values) mean += value;
    mean /= static_cast<double>(values.size());
    for (const double value : values) sum += (value - mean) * (value - mean);
    return std::sqrt(sum / std::max(1.0, static_cast<double>(values.size()) - 1));
}

// Between two values that are neighbours in order, linear.
double quantile(Doubles values, double share) {
    std::sort(values.begin(), values.end());
    const double place = share * static_cast<double>(values.size() - 1);
    const auto below = static_cast<size_t>(place);
    const size_t above = std::min(below + 1, values.size() - 1);
    return values[below] + (place - static_cast<double>(below)) * (values[above] - values[below]);
}

double mean_of(Seen values) {
    double sum = 0;
    for (const double value : values) sum += value;
    return sum / static_cast<double>(values.size());
}

}  // namespace

std::vector<double> Guided::operator()(const Sides& sides, const Floats& x, double sigma, size_t step) {
    const bool both = !sides.negative.empty();
    const size_t each = x.size() / static_cast<size_t>(pictures_);
    if (both && guidance_.zero_star && static_cast<int>(step) < guidance_.zero_steps) return Doubles(x.size(), 0.0);
    Doubles out = sides.positive;
    if (both) guide(out, sides, x, sigma);
    if (both && guidance_.norm > 0) keep_norms(out, sides);
    if (!sides.skipped.empty())
        for (size_t i = 0; i < out.size(); ++i) out[i] += guidance_.skip_scale * (sides.positive[i] - sides.skipped[i]);
    if (guidance_.rescale > 0 && (both || !sides.skipped.empty()))
        for (size_t first = 0; first < out.size(); first += each) {
            const Part own = Part(out).subspan(first, each);
            const double given = deviation(own), wanted = deviation(Seen(sides.positive).subspan(first, each));
            const double factor = guidance_.rescale * (given > 0 ? wanted / given : 1) + 1 - guidance_.rescale;
            for (double& value : own) value *= factor;
        }
    return out;
}

// Of all channels of a patch together, which a transformer sees as one token.
void Guided::keep_norms(Doubles& out, const Sides& sides) const {
    const auto pictures = static_cast<size_t>(pictures_), channels = static_cast<size_t>(channels_);
    const auto columns = static_cast<size_t>(guidance_.columns), side = static_cast<size_t>(guidance_.patch);
    const size_t plane = out.size() / (pictures * channels), rows = plane / columns;
    const size_t across = columns / side, patches = rows / side * across;
    Doubles given(pictures * patches), wanted(pictures * patches);
    const auto patch_of = [&](size_t i) {
        const size_t place = i % plane, picture = i / (plane * channels);
        return picture * patches + place / columns / side * across + place % columns / side;
    };
    for (size_t i = 0; i < out.size(); ++i) {
        given[patch_of(i)] += out[i] * out[i];
        wanted[patch_of(i)] += sides.positive[i] * sides.positive[i];
    }
    for (size_t i = 0; i < out.size(); ++i) {
        const size_t own = patch_of(i);
        const double ratio = given[own] > 0 ? std::sqrt(wanted[own] / given[own]) : 1;
        out[i] *= guidance_.norm * ratio + 1 - guidance_.norm;
    }
}

// By the two sides.
void Guided::guide(Doubles& out, const Sides& sides, const Floats& x, double sigma) {
    const size_t each = x.size() / static_cast<size_t>(pictures_);
    Doubles negative;
    if (guidance_.zero_star) {
        negative = sides.negative;
        for (size_t first = 0; first < x.size(); first += each) {
            const Part own = Part(negative).subspan(first, each);
            const double squared = dot(own, own);
            const double nearest = dot(Seen(sides.positive).subspan(first, each), own) / (squared > 0 ? squared : 1);
            for (double& value : own) value *= nearest;
        }
    }
    const Sides used{sides.positive, guidance_.zero_star ? negative : sides.negative, sides.skipped};
    if (guidance_.mimic_scale > 0)
        threshold(out, used, x, sigma);
    else if (guidance_.projects())
        project(out, used, x, sigma);
    else
        for (size_t i = 0; i < out.size(); ++i) {  // the difference is rounded, as predictions are
            const float difference = static_cast<float>(used.positive[i]) - static_cast<float>(used.negative[i]);
            out[i] = used.negative[i] + guidance_.scale * static_cast<double>(difference);
        }
}

// On clean estimates D: D+ + (scale - 1) * (what is orthogonal to D+, and the share of what is parallel).
void Guided::project(Doubles& out, const Sides& sides, const Floats& x, double sigma) {
    const size_t each = x.size() / static_cast<size_t>(pictures_);
    const auto [of_x, of_prediction] = clean_estimate(sigma, what_);
    average_.resize(x.size(), 0.0);
    Doubles clean(each), difference(each);
    for (size_t first = 0; first < x.size(); first += each) {
        for (size_t i = 0; i < each; ++i) {
            const double positive = sides.positive[first + i], negative = sides.negative[first + i];
            clean[i] = of_x * x[first + i] + of_prediction * positive;
            double& average = average_[first + i];
            average = of_prediction * (positive - negative) + guidance_.momentum * average;
            difference[i] = average;
        }
        const double norm = std::sqrt(dot(difference, difference));
        if (guidance_.norm_threshold > 0 && norm > guidance_.norm_threshold)
            for (double& value : difference) value *= guidance_.norm_threshold / norm;
        const double squared = dot(clean, clean);
        const double along = squared > 0 ? dot(difference, clean) / squared : 0;
        for (size_t i = 0; i < each; ++i) {
            const double change = difference[i] + (guidance_.parallel - 1) * along * clean[i];
            out[first + i] = sides.positive[first + i] + (guidance_.scale - 1) * change / of_prediction;
        }
    }
}

// On x - D, by channels.
void Guided::threshold(Doubles& out, const Sides& sides, const Floats& x, double sigma) const {
    const auto [of_x, of_prediction] = clean_estimate(sigma, what_);
    const auto plane = x.size() / static_cast<size_t>(pictures_ * channels_);
    Doubles guided(plane), mimicked(plane);
    for (size_t first = 0; first < x.size(); first += plane) {
        for (size_t i = 0; i < plane; ++i) {
            const double offset = (1 - of_x) * x[first + i], positive = sides.positive[first + i],
                         negative = sides.negative[first + i];
            guided[i] = offset - of_prediction * (negative + guidance_.scale * (positive - negative));
            mimicked[i] = offset - of_prediction * (negative + guidance_.mimic_scale * (positive - negative));
        }
        const double middle = mean_of(guided), mimicked_middle = mean_of(mimicked);
        double reach = 0;
        Doubles far(plane);
        for (size_t i = 0; i < plane; ++i) {
            reach = std::max(reach, std::abs(mimicked[i] - mimicked_middle));
            far[i] = std::abs(guided[i] - middle);
        }
        const double most = std::max(reach, quantile(std::move(far), guidance_.percentile));
        for (size_t i = 0; i < plane; ++i) {
            const double cut = std::clamp(guided[i] - middle, -most, most);
            const double within = middle + (most > 0 ? cut / most * reach : 0);
            const double value = guidance_.phi * within + (1 - guidance_.phi) * guided[i];
            out[first + i] = ((1 - of_x) * x[first + i] - value) / of_prediction;
        }
    }
}

}  // namespace sdcpp
