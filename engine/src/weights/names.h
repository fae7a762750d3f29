// Canonical tensor names. Every network has one naming in the engine, the original checkpoints':
// `unet.input_blocks.0.0.weight`, `vae.decoder.conv_in.weight`, `clip_l.encoder.layers.0.…`, `taesd.decoder.0.weight`.
// Files in other namings are mapped to it.
#pragma once

#include <string>
#include <vector>

#include "io/tensor_file.h"

namespace sdcpp {

// What a file was given as; `any` for a checkpoint that says by its prefixes what its tensors belong to.
enum class Part { any, unet, vae, text_encoder, taesd };

struct NamedTensor {
    std::string name;  // canonical
    TensorInfo tensor;
};

// Tensors of `file` under their canonical names; those that no network uses are left out.
std::vector<NamedTensor> canonical_tensors(const TensorFile& file, Part part);

}  // namespace sdcpp
