// Stable Diffusion 2.x.
#include <cmath>

#include "families/family.h"
#include "weights/weight.h"

namespace sdcpp {
namespace {

int64_t context_width(const ModelFiles& files) {
    for (const auto& [name, tensor] : files.tensors())
        if (name.starts_with("unet.") && name.ends_with("attn2.to_k.weight") && tensor.shape.size() == 2)
            return tensor.shape[1];
    return 0;
}

int recognises(const ModelFiles& files) {
    return files.has_prefix("unet.") && (files.has_prefix("clip_h.") || context_width(files) == 1024) ? 2 : 0;
}

// The two UNets differ in nothing but their values; this bias spreads wide in the one that predicts v (a rule of thumb
// that loaders share).
bool spread_like_v(const ModelFiles& files) {
    const TensorInfo* bias = files.find("unet.output_blocks.11.1.transformer_blocks.0.norm1.bias");
    if (!bias || !dtype_is_numeric(bias->type) || bias->count() < 2) return false;
    std::vector<float> values(static_cast<size_t>(bias->count()));
    source_of(files, *bias)->rows(0, bias->count(), values.data());
    double sum = 0, squares = 0;
    for (const float value : values) {
        sum += value;
        squares += static_cast<double>(value) * value;
    }
    const auto count = static_cast<double>(values.size());
    return std::sqrt(squares / count - sum * sum / count / count) > 0.09;
}

// The text encoder's last layer, its 24th, is not used, and some files lack it. In smaller models of this kind the
// projection shows whether the layers are all there.
Defaults defaults(const ModelFiles& files) {
    const bool released = files.has_prefix("clip_h.encoder.layers.22.");
    const bool whole =
        released ? files.has_prefix("clip_h.encoder.layers.23.") : files.find("clip_h.text_projection") != nullptr;
    return {{"clip_skip", whole ? "2" : "1"}};
}

}  // namespace

const Family sd2 = {
    .name = "sd2",
    .title = "Stable Diffusion 2.x",
    .recognises = recognises,
    .denoiser = "unet",
    .text = {.context = {{{.encoder = "clip_h", .normed = true}}}},
    .latent = latents::sd(),
    .prediction = {.aligned_sigmas = aligned_sigmas_sd1,
                   .geometric_sigmas = geometric_sigmas_sd1,
                   .v_prediction = spread_like_v,
                   .mends_schedulers = true},
    .defaults = defaults,
};

}  // namespace sdcpp
