// Tiles of large pictures.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>

#include "pipeline/tiling.h"

using namespace sdcpp;

TEST_CASE("tiles cover and blend") {
    for (const int side : {1, 8, 63, 64, 65, 97, 128, 1000}) {
        const auto starts = tile_starts(side, 64, 16);
        bool covered = starts.front() == 0 && starts.back() + 64 >= side;
        for (size_t i = 0; i + 1 < starts.size(); ++i) covered = covered && starts[i + 1] - starts[i] <= 48;
        CHECK_MESSAGE(covered, "tiles cover the side and overlap");
    }
    // a decoder that only enlarges is the same in tiles
    const int height = 20, width = 30;
    std::vector<float> latent(static_cast<size_t>(height * width));
    for (size_t i = 0; i < latent.size(); ++i) latent[i] = std::sin(static_cast<float>(i));
    const auto enlarge = [](const std::vector<float>& x, int h, int w) {
        std::vector<float> out;
        for (int y = 0; y < 2 * h; ++y)
            for (int c = 0; c < 2 * w; ++c) out.push_back(x[static_cast<size_t>(y / 2 * w + c / 2)]);
        return out;
    };
    const auto whole = enlarge(latent, height, width);
    const auto tiled = decode_tiled({8, 3, 2, 1, 1}, latent, height, width, enlarge);
    float worst = 0;
    for (size_t i = 0; i < whole.size(); ++i) worst = std::max(worst, std::abs(whole[i] - tiled[i]));
    CHECK_MESSAGE(worst < 1e-5f, "tiles blend to the whole");
}
