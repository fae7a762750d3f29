#include "models/denoiser.h"

#include <cmath>

namespace sdcpp {

std::vector<float> sinusoids(std::span<const float> values, int64_t width) {
    std::vector<float> out;
    const int64_t half = width / 2;
    for (const float value : values) {
        std::vector<float> row(static_cast<size_t>(width), 0.0f);
        for (int64_t i = 0; i < half; ++i) {
            const double angle =
                value * std::exp(-std::log(10000.0) * static_cast<double>(i) / static_cast<double>(half));
            row[static_cast<size_t>(i)] = static_cast<float>(std::cos(angle));
            row[static_cast<size_t>(half + i)] = static_cast<float>(std::sin(angle));
        }
        out.insert(out.end(), row.begin(), row.end());
    }
    return out;
}

}  // namespace sdcpp
