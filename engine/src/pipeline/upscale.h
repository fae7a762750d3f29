// Larger pictures by a network.
#pragma once

#include <span>

#include "pipeline/model.h"

namespace sdcpp {

struct UpscaleOptions {
    int tile = 0;     // sides of the tiles that it works in, in pixels of the given picture; 0: as memory allows
    int overlap = 0;  // pixels that neighbours share; 0: what the network needs
};

// How many times larger the model's upscaler makes a side; 0 if it has none.
int upscale_factor(const Model& model);

// A picture [3, h, w] in 0..1 to one [3, h * factor, w * factor], within 0..1.
Floats upscale(Model& model, const UpscaleOptions& options, std::span<const float> picture, int height, int width);

// The tile's side that upscale() begins with; 0: in one piece.
int upscale_tile(Executor& upscaler, const UpscaleOptions& options, int height, int width, bool budgeted);

}  // namespace sdcpp
