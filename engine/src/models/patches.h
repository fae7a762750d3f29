// Latents as sequences of patches, as transformers take them: row by row.
#pragma once

#include <span>
#include <vector>

#include "generation/latent.h"
#include "models/denoiser.h"
#include "nn/array.h"

namespace sdcpp {

// Which comes first within a patch.
enum class PatchOrder { channel_first, place_first };

// `x` [rows, C, H, W] as [rows, H/p * W/p, C * p * p].
std::vector<float> patches(std::span<const float> x, const LatentShape& shape, int64_t patch, PatchOrder order);

// The rows' patches, [rows, tokens, C * p * p], each row followed by those of the references, which are the same for
// all.
Array patches_with_references(const Noisy& noisy, int64_t patch, PatchOrder order);

// The first H/p * W/p tokens of each row of `tokens` [rows, T, C * p * p] as [rows, C, H, W].
std::vector<float> from_patches(const Array& tokens, const LatentShape& shape, int64_t patch, PatchOrder order);

}  // namespace sdcpp
