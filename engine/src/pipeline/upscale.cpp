#include "pipeline/upscale.h"

#include <algorithm>

#include "base/log.h"
#include "models/upscaler.h"
#include "pipeline/checks.h"
#include "pipeline/tiling.h"

namespace sdcpp {
namespace {

constexpr int smallest_tile = 32, largest_piece = 512;

int rounded_up(int side, int64_t multiple) {
    const auto m = static_cast<int>(multiple);
    return (side + m - 1) / m * m;
}

// The picture with its last row and column repeated until the sides are whole multiples.
Floats padded(std::span<const float> picture, int height, int width, int64_t multiple) {
    const int tall = rounded_up(height, multiple), wide = rounded_up(width, multiple);
    Floats out(static_cast<size_t>(3) * static_cast<size_t>(tall) * static_cast<size_t>(wide));
    auto to = out.begin();
    for (int c = 0; c < 3; ++c)
        for (int y = 0; y < tall; ++y)
            for (int x = 0; x < wide; ++x, ++to)
                *to = picture[static_cast<size_t>((c * height + std::min(y, height - 1)) * width +
                                                  std::min(x, width - 1))];
    return out;
}

Floats cropped(const Floats& picture, int tall, int wide, int height, int width) {
    if (tall == height && wide == width) return picture;
    Floats out;
    out.reserve(static_cast<size_t>(3) * static_cast<size_t>(height) * static_cast<size_t>(width));
    for (int c = 0; c < 3; ++c)
        for (int y = 0; y < height; ++y) {
            const auto row = picture.begin() + (static_cast<std::ptrdiff_t>(c) * tall + y) * wide;
            out.insert(out.end(), row, row + width);
        }
    return out;
}

}  // namespace

int upscale_factor(const Model& model) {
    const Executor* executor = model.by_role(Role::upscaler);
    return executor ? static_cast<int>(executor->as<Upscaler>().scale()) : 0;
}

int upscale_tile(Executor& upscaler, const UpscaleOptions& options, int height, int width, bool budgeted) {
    if (options.tile > 0) return std::max(height, width) > options.tile ? options.tile : 0;
    const auto fits = [&](int64_t h, int64_t w) { return upscaler.fits({{"x", GGML_TYPE_F32, {1, 3, h, w}}}); };
    const bool small = std::max(height, width) <= largest_piece;
    if (small && (!budgeted || fits(height, width))) return 0;
    int tile = largest_piece / 2;
    while (budgeted && tile > smallest_tile && !fits(tile, tile)) tile /= 2;
    return tile;
}

Floats upscale(Model& model, const UpscaleOptions& options, std::span<const float> picture, int height, int width) {
    Executor& executor = model.need(Role::upscaler);
    const Upscaler& net = executor.as<Upscaler>();
    const auto factor = static_cast<int>(net.scale()), multiple = static_cast<int>(net.multiple());
    if (height < 1 || width < 1 || height > max_pixels_side / factor || width > max_pixels_side / factor)
        fail(SDCPP_INVALID_ARGUMENT, "a picture of ", width, " x ", height, " cannot be made ", factor,
             " times larger; sides up to ", max_pixels_side, " pixels are possible");
    if (options.tile > 0 && (options.tile < smallest_tile || options.tile % multiple != 0))
        fail(SDCPP_INVALID_ARGUMENT, OptionName{"upscale_tile_size"}, " must be ", smallest_tile,
             " or more, and a whole multiple of ", multiple);
    const Floats whole = padded(picture, height, width, multiple);
    const int tall = rounded_up(height, multiple), wide = rounded_up(width, multiple);
    const auto run = [&](Floats part, int h, int w) {
        const Array made = executor.run({{"x", GGML_TYPE_F32, {1, 3, h, w}, part.data()}});
        Floats out(made.floats().begin(), made.floats().end());
        require_finite(out, "the enlarged pixels");
        for (float& value : out) value = std::clamp(value, 0.0f, 1.0f);
        return out;
    };
    int tile = upscale_tile(executor, options, tall, wide, model.options.max_vram != 0);
    while (true) {
        const int overlap = std::min(options.overlap > 0 ? options.overlap : static_cast<int>(net.reach()), tile / 2);
        try {
            const Floats made = tile == 0
                                    ? run(whole, tall, wide)
                                    : decode_tiled({tile, overlap, factor, 3, 3, multiple}, whole, tall, wide, run);
            return cropped(made, tall * factor, wide * factor, height * factor, width * factor);
        } catch (const OverBudget&) {
            if (options.tile > 0 || tile == smallest_tile) throw;
        } catch (const Error& problem) {
            if (problem.status() != SDCPP_OUT_OF_MEMORY || options.tile > 0 || tile == smallest_tile) throw;
        }
        tile = tile == 0 ? largest_piece / 2 : tile / 2;
        log(SDCPP_LOG_INFO, "too little memory: enlarging in tiles of " + std::to_string(tile) + " pixels");
    }
}

}  // namespace sdcpp
