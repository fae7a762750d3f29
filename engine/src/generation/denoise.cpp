#include "generation/denoise.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"

namespace sdcpp {

size_t step_of(double sigma, const std::vector<double>& sigmas) {
    size_t step = 0;
    while (step + 2 < sigmas.size() && sigma <= sigmas[step + 1]) ++step;
    return step;
}

Denoise predicted(Predict network, Predicts what) {
    return [network = std::move(network), what](const Floats& x, double sigma) {
        return clean_estimate(network(x, sigma), x, sigma, what);
    };
}

Predict guided(PredictFor predict, std::vector<Guide> guides, Guided combine, std::vector<double> sigmas,
               std::vector<double>* negative_out) {
    return [=](const Floats& x, double sigma) mutable {
        const size_t step = step_of(sigma, sigmas);
        const double share = static_cast<double>(step) / static_cast<double>(sigmas.size() - 1);
        const auto counts = [&](const Guide& guide) { return share >= guide.start && share < guide.end; };
        std::vector<size_t> which;
        double weights[2] = {0, 0};
        for (const bool negative : {false, true})
            for (size_t i = 0; i < guides.size(); ++i) {
                if (guides[i].negative != negative || !counts(guides[i])) continue;
                if (negative && combine.scale() == 1 && weights[0] == 1) continue;  // it would have no effect
                which.push_back(i);
                weights[negative] += guides[i].weight;
            }
        if (which.empty() || guides[which.front()].negative)
            fail(SDCPP_INVALID_ARGUMENT, "no prompt counts after ", 100 * share, "% of the steps");
        const bool both = weights[1] > 0;
        if (!both && weights[0] == 0)
            fail(SDCPP_INVALID_ARGUMENT, "the prompts' weights add up to 0, which needs a negative prompt");
        const Floats all = predict(x, sigma, which);
        std::vector<double> positive(x.size()), negative(both ? x.size() : 0);
        for (size_t i = 0; i < x.size(); ++i) {
            double sums[2] = {0, 0};
            for (size_t n = 0; n < which.size(); ++n) {
                const Guide& guide = guides[which[n]];
                const double weight = guide.negative || !both ? guide.weight / weights[guide.negative] : guide.weight;
                sums[guide.negative] += all[n * x.size() + i] * weight;
            }
            if (both) {
                negative[i] = static_cast<float>(sums[1]);
                if (weights[0] != 1) sums[0] += (1 - weights[0]) * negative[i];
            }
            positive[i] = static_cast<float>(sums[0]);
        }
        if (negative_out) *negative_out = negative;
        return both ? combine({positive, negative}, x, sigma, step) : positive;
    };
}

}  // namespace sdcpp
