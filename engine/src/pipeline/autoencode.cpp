#include <algorithm>
#include <cmath>

#include "base/log.h"
#include "models/autoencoder.h"
#include "pipeline/autoencode.h"
#include "pipeline/checks.h"
#include "pipeline/tiling.h"

namespace sdcpp {
namespace {

constexpr int default_tile = 64;
constexpr int smallest_tile = 8;
constexpr int tile_above = 96;  // latent sides past which tiling is automatic

}  // namespace

// Latent sides of the tiles to decode in; 0: in one piece. Without the user's word, tiles are as small as memory wants.
int tile_sides(const Model& model, Executor& decoder, int height, int width, const DecodeOptions& options) {
    if (options.tile > 0 && options.tile < smallest_tile)
        fail(SDCPP_INVALID_ARGUMENT, "a tile must be ", smallest_tile, " or more latent sides");
    if (options.tiling == 0) return 0;
    const auto fits = [&](int64_t h, int64_t w) {
        return decoder.fits({{"x", GGML_TYPE_F32, {1, model.facts.latent.channels, h, w}}});
    };
    const bool large = height > tile_above || width > tile_above;
    const bool budgeted = model.options.max_vram != 0;
    if (options.tiling < 0 && !large && (!budgeted || fits(height, width))) return 0;
    if (options.tile > 0) return options.tile;
    int tile = default_tile;
    while (budgeted && tile > smallest_tile && !fits(tile, tile)) tile /= 2;
    return tile;
}

Floats decode(Model& model, const DecodeOptions& options, std::span<const float> latent, int height, int width) {
    const LatentSpace& space = model.facts.latent;
    Executor& decoder = model.need(options.taesd ? Role::tiny_decoder : Role::decoder);
    const int channels = space.channels, factor = space.factor;
    if (height < 1 || width < 1 || height > max_pixels_side / factor || width > max_pixels_side / factor)
        fail(SDCPP_INVALID_ARGUMENT, "latents of ", height, " x ", width, " cannot be decoded");
    int tile = tile_sides(model, decoder, height, width, options);
    const double share = options.overlap < 0 ? 0.25 : options.overlap;
    if (!(share <= 0.5)) fail(SDCPP_INVALID_ARGUMENT, "the overlap of tiles must be 0 to 0.5");
    const auto whole = [&](std::vector<float> part, int h, int w) {
        if (!options.taesd) space.to_encoded(part, int64_t{h} * w);
        const Array decoded = decoder.run({{"x", GGML_TYPE_F32, {1, channels, h, w}, part.data()}});
        Floats picture(decoded.floats().begin(), decoded.floats().end());
        if (options.taesd)
            for (float& value : picture) value = value * 2 - 1;
        require_finite(picture, "the decoded pixels");
        return picture;
    };
    while (true) {
        try {
            if (tile == 0) return whole({latent.begin(), latent.end()}, height, width);
            return decode_tiled({tile, static_cast<int>(tile * share), factor, channels, 3}, latent, height, width,
                                whole);
        } catch (const OverBudget&) {
            if (options.tiling == 0 || options.tile > 0 || tile == smallest_tile) throw;
        } catch (const Error& problem) {
            const bool memory = problem.status() == SDCPP_OUT_OF_MEMORY;
            if (!memory || options.tiling == 0 || options.tile > 0 || tile == smallest_tile) throw;
        }
        tile = tile == 0 ? default_tile : tile / 2;
        log(SDCPP_LOG_INFO, "too little memory: decoding in tiles of " + std::to_string(tile) + " latent sides");
    }
}

std::vector<uint8_t> to_bytes(const Floats& picture) {
    const size_t pixels = picture.size() / 3;
    std::vector<uint8_t> out(picture.size());
    for (size_t i = 0; i < pixels; ++i)
        for (size_t c = 0; c < 3; ++c)
            out[3 * i + c] =
                static_cast<uint8_t>(std::lround(std::clamp(picture[c * pixels + i] * 127.5f + 127.5f, 0.0f, 255.0f)));
    return out;
}

Floats encode(Model& model, std::span<const float> picture, int height, int width) {
    Executor& encoder = model.need(Role::encoder);
    const int factor = static_cast<int>(encoder.as<Autoencoder>().factor());
    if (height < factor || width < factor || height % factor || width % factor || height > max_pixels_side ||
        width > max_pixels_side)
        fail(SDCPP_INVALID_ARGUMENT, "pictures of ", width, " x ", height,
             " cannot be encoded; sides must be multiples of ", factor);
    const Array encoded = encoder.run({{"x", GGML_TYPE_F32, {1, 3, height, width}, picture.data()}});
    const auto mean = encoded.floats().first(static_cast<size_t>(encoded.count()) / 2);  // the log variance follows it
    Floats latent(mean.begin(), mean.end());
    model.facts.latent.to_sampled(latent, encoded.shape[2] * encoded.shape[3]);
    require_finite(latent, "the latents");
    return latent;
}

}  // namespace sdcpp
