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

namespace {

enum : size_t { positives, negatives, skipping };
size_t side_of(const Guide& guide) { return guide.skips_blocks ? skipping : guide.negative ? negatives : positives; }

}  // namespace

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
        double weights[3] = {0, 0, 0};
        for (const size_t side : {positives, negatives, skipping})
            for (size_t i = 0; i < guides.size(); ++i) {
                if (side_of(guides[i]) != side || !counts(guides[i])) continue;
                if (side == negatives && combine.how().scale == 1 && weights[positives] == 1)
                    continue;  // it would have no effect
                if (side == skipping && !combine.how().skips_at(share)) continue;
                which.push_back(i);
                weights[side] += guides[i].weight;
            }
        if (which.empty() || side_of(guides[which.front()]) != positives)
            fail(SDCPP_INVALID_ARGUMENT, "no prompt counts after ", 100 * share, "% of the steps");
        const bool both = weights[negatives] > 0;
        const bool skips = side_of(guides[which.back()]) == skipping;
        if (!both && weights[positives] == 0)
            fail(SDCPP_INVALID_ARGUMENT, "the prompts' weights add up to 0, which needs a negative prompt");
        const Floats all = predict(x, sigma, which);
        std::vector<double> positive(x.size()), negative(both ? x.size() : 0), skipped(skips ? x.size() : 0);
        for (size_t i = 0; i < x.size(); ++i) {
            double sums[3] = {0, 0, 0};
            for (size_t n = 0; n < which.size(); ++n) {
                const Guide& guide = guides[which[n]];
                const size_t side = side_of(guide);
                const double weight = side == negatives || !both ? guide.weight / weights[side] : guide.weight;
                sums[side] += all[n * x.size() + i] * weight;
            }
            if (both) {
                negative[i] = static_cast<float>(sums[negatives]);
                for (const size_t side : {positives, skipping})
                    if (weights[side] != 1) sums[side] += (1 - weights[side]) * negative[i];
            }
            positive[i] = static_cast<float>(sums[positives]);
            if (skips) skipped[i] = static_cast<float>(sums[skipping]);
        }
        if (negative_out) *negative_out = negative;
        return both || skips ? combine({positive, negative, skipped}, x, sigma, step) : positive;
    };
}

}  // namespace sdcpp
