// Latents from an autoencoder's space to the sampled one and back.
#include <doctest/doctest.h>

#include <cmath>

#include "generation/latent.h"

using namespace sdcpp;

TEST_CASE("latent spaces with one scale and shift, and with a mean and deviation a channel, undo themselves") {
    LatentSpace scaled;
    scaled.scale = 0.3611;
    scaled.shift = 0.1159;
    LatentSpace normed;
    normed.channels = 2;
    normed.mean = {1, -2};
    normed.deviation = {2, 0.5f};
    for (const LatentSpace& space : {scaled, normed}) {
        std::vector<float> values = {1, 2, 3, 4, 5, 6, 7, 8};  // two pictures of two channels of two values
        const std::vector<float> before = values;
        space.to_sampled(values, 2);
        CHECK(std::abs(values[0] - before[0]) + std::abs(values[2] - before[2]) > 0.1f);
        space.to_encoded(values, 2);
        for (size_t i = 0; i < values.size(); ++i) CHECK(std::abs(values[i] - before[i]) < 1e-5f);
    }
    std::vector<float> values = {1, 2, 3, 4, 5, 6, 7, 8};
    normed.to_sampled(values, 2);
    CHECK(values == std::vector<float>{0, 0.5f, 10, 12, 2, 2.5f, 18, 20});
}

TEST_CASE("a rough picture is the channels' shares of red, green and blue, and an offset") {
    LatentSpace space;
    space.channels = 2;
    space.rgb = {1, 0, 0, 0, 1, 0.5f};
    space.rgb_bias = {0, 0, -0.5f};
    // Two pixels: channel 0 is 1 and -3, channel 1 is 0 and NaN.
    const std::vector<float> values = {1, -3, 0, std::nanf("")};
    CHECK(space.rough_picture(values, 2) == std::vector<uint8_t>{255, 128, 64, 0, 0, 0});
}
