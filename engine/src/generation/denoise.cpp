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

Floats clean_estimate(const std::vector<double>& prediction, const Floats& x, double sigma, Predicts what) {
    Floats clean(x.size());
    const double shrink = 1 / (sigma * sigma + 1);
    for (size_t i = 0; i < clean.size(); ++i) {
        const double value = prediction[i];
        clean[i] = static_cast<float>(what == Predicts::v ? x[i] * shrink - value * sigma * std::sqrt(shrink)
                                                          : x[i] - sigma * value);
    }
    return clean;
}

Denoise predicted(Predict network, Predicts what) {
    return [network = std::move(network), what](const Floats& x, double sigma) {
        return clean_estimate(network(x, sigma), x, sigma, what);
    };
}

Predict guided(PredictFor predict, std::vector<Guide> guides, double scale, std::vector<double> sigmas,
               std::vector<double>* negative_out) {
    return [=](const Floats& x, double sigma) {
        const double share = static_cast<double>(step_of(sigma, sigmas)) / static_cast<double>(sigmas.size() - 1);
        std::vector<size_t> which;
        double weights[2] = {0, 0};
        for (const bool negative : {false, true})
            for (size_t i = 0; i < guides.size(); ++i) {
                const Guide& guide = guides[i];
                const bool counts = share >= guide.start && share < guide.end;
                if (guide.negative != negative || !counts || (negative && scale == 1)) continue;
                which.push_back(i);
                weights[negative] += guide.weight;
            }
        if (which.empty() || guides[which.front()].negative)
            fail(SDCPP_INVALID_ARGUMENT, "no prompt counts after ", 100 * share, "% of the steps");
        const Floats all = predict(x, sigma, which);
        std::vector<double> out(x.size());
        if (negative_out) negative_out->assign(weights[1] > 0 ? x.size() : 0, 0);
        for (size_t i = 0; i < out.size(); ++i) {
            double sums[2] = {0, 0};
            for (size_t n = 0; n < which.size(); ++n) {
                const Guide& guide = guides[which[n]];
                sums[guide.negative] += all[n * x.size() + i] * (guide.weight / weights[guide.negative]);
            }
            const auto positive = static_cast<float>(sums[0]), negative = static_cast<float>(sums[1]);
            if (negative_out && weights[1] > 0) (*negative_out)[i] = negative;
            out[i] = weights[1] > 0 ? negative + scale * (positive - negative) : positive;
        }
        return out;
    };
}

}  // namespace sdcpp
