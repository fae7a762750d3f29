// Latent spaces that several families share. The shares of red, green and blue are published approximations.
#include "families/family.h"

namespace sdcpp::latents {
namespace {

// From units of 1e-4.
std::vector<float> shares(const std::vector<int>& numbers) {
    std::vector<float> out;
    for (const int number : numbers) out.push_back(static_cast<float>(number) * 1e-4f);
    return out;
}

}  // namespace

LatentSpace sd() {
    LatentSpace out;
    out.scale = 0.18215;
    out.rgb = shares({3512, 2297, 3227, 3250, 4974, 2350, -2829, 1762, 2721, -2120, -2616, -7177});
    out.rgb_bias = shares({0, 0, 0});
    out.tiny_autoencoder = "taesd";
    return out;
}

LatentSpace sdxl() {
    LatentSpace out;
    out.scale = 0.13025;
    out.rgb = shares({3651, 4232, 4341, -2533, -42, 1068, 1076, 1111, -362, -3165, -2492, -2188});
    out.rgb_bias = shares({1084, -175, -11});
    out.tiny_autoencoder = "taesd";
    return out;
}

LatentSpace flux() {
    LatentSpace out;
    out.channels = 16;
    out.scale = 0.3611;
    out.shift = 0.1159;
    out.rgb = shares({-346, 244, 681, 34,  210, 687,  275,  -668,  -433, -174,  160,  617,  859,  721,   329,  4,
                      383,  115, 405, 861, 915, -236, -185, -259,  -245, 250,   1180, 1008, 755,  -421,  -515, 201,
                      11,   428, -12, -36, 817, 765,  749,  -1264, -522, -1103, -280, -881, -499, -1262, -982, -778});
    out.rgb_bias = shares({-329, -718, -851});
    out.tiny_autoencoder = "taesd";
    return out;
}

}  // namespace sdcpp::latents
