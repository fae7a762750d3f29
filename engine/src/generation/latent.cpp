#include "generation/latent.h"

#include <algorithm>
#include <cmath>

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

std::vector<uint8_t> LatentSpace::rough_picture(std::span<const float> values, int64_t plane) const {
    const auto count = static_cast<size_t>(plane);
    std::vector<uint8_t> out(3 * count);
    for (size_t i = 0; i < count; ++i)
        for (size_t colour = 0; colour < 3; ++colour) {
            float sum = rgb_bias[colour];
            for (size_t channel = 0; channel < static_cast<size_t>(channels); ++channel)
                sum += values[channel * count + i] * rgb[3 * channel + colour];
            // A latent that is not finite gives black.
            const float share = std::isfinite(sum) ? std::clamp(sum, -1.0f, 1.0f) : -1.0f;
            out[3 * i + colour] = static_cast<uint8_t>(std::lround(share * 127.5f + 127.5f));
        }
    return out;
}

}  // namespace sdcpp
