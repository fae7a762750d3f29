#include "generation/latent.h"

namespace sdcpp {

void LatentSpace::to_sampled(std::span<float> values, int64_t plane) const {
    for (size_t i = 0; i < values.size(); ++i) {
        if (mean.empty()) {
            values[i] = static_cast<float>((values[i] - shift) * scale);
            continue;
        }
        const size_t channel = i / static_cast<size_t>(plane) % mean.size();
        values[i] = (values[i] - mean[channel]) / deviation[channel];
    }
}

void LatentSpace::to_encoded(std::span<float> values, int64_t plane) const {
    const auto factor_of = static_cast<float>(1 / scale), offset = static_cast<float>(shift);
    for (size_t i = 0; i < values.size(); ++i) {
        if (mean.empty()) {
            values[i] = values[i] * factor_of + offset;
            continue;
        }
        const size_t channel = i / static_cast<size_t>(plane) % mean.size();
        values[i] = values[i] * deviation[channel] + mean[channel];
    }
}

}  // namespace sdcpp
