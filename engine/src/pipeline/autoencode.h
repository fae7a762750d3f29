// Latents to pictures and back.
#pragma once

#include <span>

#include "pipeline/model.h"

namespace sdcpp {

struct DecodeOptions {
    int tiling = -1, tile = 0;
    double overlap = -1;
    bool taesd = false;
};

// Picture [3, h*f, w*f] in -1..1 from a latent [C, h, w].
Floats decode(Model& model, const DecodeOptions& options, std::span<const float> latent, int height, int width);
// Bytes [h, w, 3] of a picture [3, h, w] in -1..1.
std::vector<uint8_t> to_bytes(const Floats& picture);
// Mean of the latent of a picture [3, height, width] in -1..1, as sampled.
Floats encode(Model& model, std::span<const float> picture, int height, int width);

// Latent sides of the tiles that decode() works in; 0: in one piece.
int tile_sides(const Model& model, Executor& decoder, int height, int width, const DecodeOptions& options);

}  // namespace sdcpp
