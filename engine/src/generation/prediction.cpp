#include "generation/prediction.h"

#include <cmath>

namespace sdcpp {

CleanEstimate clean_estimate(double sigma, Predicts what) {
    const double shrink = 1 / (sigma * sigma + 1);
    if (what == Predicts::v) return {shrink, -sigma * std::sqrt(shrink)};
    return {1, -sigma};
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

}  // namespace sdcpp
