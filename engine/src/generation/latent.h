// Latents: their shape, and the space they lie in.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

namespace sdcpp {

using Floats = std::vector<float>;

struct LatentShape {
    int64_t channels = 4, frames = 1, height = 0, width = 0;
    int64_t count() const { return channels * frames * height * width; }
    bool operator==(const LatentShape&) const = default;
};

// How an autoencoder's latents become those that a diffusion model sees, and their colours.
struct LatentSpace {
    int channels = 4, factor = 8, frame_factor = 1;  // pixels, and pictures, per side
    double scale = 1, shift = 0;                     // sampled = (encoded - shift) * scale …
    std::vector<float> mean{}, deviation{};          // … or (encoded - mean) / deviation, by channel, if there are any
    // A channel's share of red, green and blue in -1..1, [channels][3], and the offsets: a picture without a decoder.
    std::vector<float> rgb{}, rgb_bias{};
    std::string_view tiny_autoencoder{};  // the component that decodes it roughly; "" if there is none

    // In place; `values` [..., channels, frames * height * width], the inner sides `plane` values together.
    void to_sampled(std::span<float> values, int64_t plane) const;
    void to_encoded(std::span<float> values, int64_t plane) const;

    // Red, green and blue [plane][3] of a sampled latent [channels, plane]: a picture without a decoder, one pixel a
    // latent value.
    std::vector<uint8_t> rough_picture(std::span<const float> values, int64_t plane) const;
};

}  // namespace sdcpp
