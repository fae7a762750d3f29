// Canonical tensor names. Every network has one naming in the engine: the original checkpoints' for
// `unet.input_blocks.0.0.weight`, `z_image.layers.0.…`, `vae.decoder.conv_in.weight`, `taesd.decoder.0.weight`, and
// transformers' for text encoders, `clip_l.encoder.layers.0.…`, `clip_g.…`, `clip_h.…`, `llm.layers.0.…`. Files in
// other namings are mapped to it; a tensor that holds q, k and v together becomes three.
#pragma once

#include <string>
#include <vector>

#include "io/tensor_file.h"

namespace sdcpp {

// What a file was given as; `any` for a checkpoint that says by its prefixes what its tensors belong to, `text_encoder`
// for one whose kind its tensors show.
enum class Part { any, diffusion, vae, text_encoder, taesd, clip_l, clip_g, llm };

struct NamedTensor {
    std::string name;  // canonical
    TensorInfo tensor;
};

// Tensors of `file` under their canonical names; those that no network uses are left out.
std::vector<NamedTensor> canonical_tensors(const TensorFile& file, Part part);

}  // namespace sdcpp
