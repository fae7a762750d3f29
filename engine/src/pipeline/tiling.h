// Large pictures in pieces: overlapping tiles, blended so that no seam shows.
#pragma once

#include <functional>
#include <span>
#include <vector>

namespace sdcpp {

struct TileGrid {
    int tile = 64;     // latent side of a tile
    int overlap = 16;  // latent sides shared by neighbours
    int factor = 8;    // pixels per latent side
    int channels_in = 4, channels_out = 3;
    int multiple = 1;  // tiles begin at whole multiples of this
};

// The starts of tiles of `tile` along `side`, so that neighbours overlap by at least `overlap`. Each is a
// whole multiple of `multiple`, as `side` and `tile` are.
std::vector<int> tile_starts(int side, int tile, int overlap, int multiple = 1);

// Applies `decode` ([C, h, w] -> [C', h*f, w*f]) tile by tile and blends linearly over the overlaps.
std::vector<float> decode_tiled(
    const TileGrid& grid, std::span<const float> latent, int height, int width,
    const std::function<std::vector<float>(std::vector<float> tile, int height, int width)>& decode);

}  // namespace sdcpp
