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

LatentSpace sd3() {
    LatentSpace out;
    out.channels = 16;
    out.scale = 1.5305;
    out.shift = 0.0609;
    out.rgb = shares({-922, -175, 749, 311,  633, 954, 1994, 927,  458,  856,  339,  902,  587,  272,   -496,  -6,
                      1104, 309,  978, 306,  427, -42, 1038, 1358, -194, 20,   669,  -488, 130,  -268,  922,   988,
                      951,  -278, 524, -542, 332, 456, 895,  -69,  -30,  -810, -596, -465, -293, -1448, -1463, -1189});
    out.rgb_bias = shares({2394, 2135, 1925});
    out.tiny_autoencoder = "taesd";
    return out;
}

LatentSpace flux_2() {
    LatentSpace out;
    out.channels = 128;
    out.factor = 16;
    // a patch shows the mean of its four places
    const std::vector<float> places =
        shares({58,  113,  73,   495,  443,  836,  -99,  96,  644,   2144,  3009,  3652, 166,  -39,  -54,  157,
                103, -160, -398, 902,  -235, -52,  95,   109, -3527, -2712, -1666, -301, -356, -180, -107, 78,
                13,  746,  90,   -941, 156,  169,  70,   -34, -40,   -114,  32,    181,  80,   -939, -8,   186,
                18,  43,   104,  284,  56,   -127, -24,  -22, -30,   1207,  -26,   65,   128,  101,  142,  137,
                -72, -7,   95,   92,   -59,  0,    -77,  -49, -465,  -204,  -312,  95,   12,   -66,  290,  -34,
                25,  220,  169,  -48,  -332, -457, -468, -85, 389,   609,   -76,   3,    -43,  -111, -460, -614});
    for (size_t channel = 0; channel < places.size() / 3; ++channel)
        for (int place = 0; place < 4; ++place)
            for (size_t colour = 0; colour < 3; ++colour) out.rgb.push_back(places[3 * channel + colour] / 4);
    out.rgb_bias = shares({-329, -718, -851});
    return out;
}

LatentSpace wan() {
    LatentSpace out;
    out.channels = 16;
    out.mean = {-.7571f, -.7089f, -.9113f, .1075f,  -.1745f, .9653f,  -.1517f, 1.5508f,
                .4134f,  -.0715f, .5517f,  -.3632f, -.1922f, -.9497f, .2503f,  -.2921f};
    out.deviation = {2.8184f, 1.4541f, 2.3275f, 2.6558f, 1.2196f, 1.7708f, 2.6052f, 2.0743f,
                     3.2687f, 2.1526f, 2.8652f, 1.5579f, 1.6382f, 1.1253f, 2.8251f, 1.9160f};
    out.rgb =
        shares({-1299, -1692, 2932,  671,   406,   442, 3568, 2548, 1747, 372, 2344,  1420,  313,  189,  -328, 296,
                -956,  -665,  -3477, -4059, -2925, 166, 1902, 1975, -412, 267, -1364, -1293, 740,  1636, 680,  3019,
                1128,  32,    581,   639,   -1251, 927, 1699, 60,   -633, 5,   3477,  2275,  2950, 1984, 913,  1861});
    out.rgb_bias = shares({-1835, -868, -3360});
    return out;
}

}  // namespace sdcpp::latents
