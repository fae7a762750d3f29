#include "pipeline/tiling.h"

#include <algorithm>

namespace sdcpp {
namespace {

// A tile's weight at each of its pixels: a ramp over the overlap with the tiles before and after, 1 elsewhere.
std::vector<float> ramp(int size, int shared_before, int shared_after) {
    std::vector<float> weight(static_cast<size_t>(size), 1.0f);
    for (int i = 0; i < shared_before; ++i)
        weight[static_cast<size_t>(i)] = (static_cast<float>(i) + 0.5f) / static_cast<float>(shared_before);
    for (int i = 0; i < shared_after; ++i)
        weight[static_cast<size_t>(size - 1 - i)] *= (static_cast<float>(i) + 0.5f) / static_cast<float>(shared_after);
    return weight;
}

std::vector<float> ramp_of(const std::vector<int>& starts, size_t at, int size, int factor) {
    const int before = at > 0 ? starts[at - 1] + size - starts[at] : 0;
    const int after = at + 1 < starts.size() ? starts[at] + size - starts[at + 1] : 0;
    return ramp(size * factor, before * factor, after * factor);
}

}  // namespace

std::vector<int> tile_starts(int side, int tile, int overlap, int multiple) {
    if (side <= tile) return {0};
    const int stride = std::max(multiple, (tile - overlap) / multiple * multiple);
    const int count = (side - tile + stride - 1) / stride + 1;
    std::vector<int> starts;
    for (int i = 0; i < count; ++i)
        starts.push_back(static_cast<int>(static_cast<int64_t>(side - tile) * i / (count - 1)) / multiple * multiple);
    return starts;
}

std::vector<float> decode_tiled(
    const TileGrid& grid, std::span<const float> latent, int height, int width,
    const std::function<std::vector<float>(std::vector<float> tile, int height, int width)>& decode) {
    const int f = grid.factor, tile_h = std::min(grid.tile, height), tile_w = std::min(grid.tile, width);
    const auto rows = tile_starts(height, tile_h, grid.overlap, grid.multiple),
               columns = tile_starts(width, tile_w, grid.overlap, grid.multiple);
    const auto out_w = static_cast<size_t>(width) * static_cast<size_t>(f),
               out_plane = out_w * static_cast<size_t>(height) * static_cast<size_t>(f);
    std::vector<float> out(out_plane * static_cast<size_t>(grid.channels_out), 0.0f), total(out_plane, 0.0f);
    for (size_t r = 0; r < rows.size(); ++r) {
        const std::vector<float> weight_y = ramp_of(rows, r, tile_h, f);
        for (size_t c = 0; c < columns.size(); ++c) {
            const std::vector<float> weight_x = ramp_of(columns, c, tile_w, f);
            std::vector<float> tile;
            tile.reserve(static_cast<size_t>(grid.channels_in * tile_h * tile_w));
            for (int channel = 0; channel < grid.channels_in; ++channel) {
                for (int y = 0; y < tile_h; ++y) {
                    const auto at = static_cast<std::ptrdiff_t>(
                        (static_cast<int64_t>(channel) * height + rows[r] + y) * width + columns[c]);
                    tile.insert(tile.end(), latent.begin() + at, latent.begin() + at + tile_w);
                }
            }
            const std::vector<float> done = decode(std::move(tile), tile_h, tile_w);
            size_t from = 0;
            for (int channel = 0; channel < grid.channels_out; ++channel) {
                for (size_t y = 0; y < weight_y.size(); ++y) {
                    const size_t row =
                        (static_cast<size_t>(rows[r] * f) + y) * out_w + static_cast<size_t>(columns[c] * f);
                    for (size_t x = 0; x < weight_x.size(); ++x, ++from) {
                        const float weight = weight_y[y] * weight_x[x];
                        out[static_cast<size_t>(channel) * out_plane + row + x] += weight * done[from];
                        if (channel == 0) total[row + x] += weight;
                    }
                }
            }
        }
    }
    for (size_t i = 0; i < out.size(); ++i) out[i] /= total[i % out_plane];
    return out;
}

}  // namespace sdcpp
