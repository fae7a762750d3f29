// Z-Image (Z-Image team 2025): the distilled Turbo and the base model.
#include "families/family.h"

namespace sdcpp {
namespace {

Defaults defaults(const ModelFiles& files) {
    const bool turbo = files.config()["scheduler"].number_or("shift", 3) <= 4;
    return {{"width", "1024"},
            {"height", "1024"},
            {"clip_skip", "2"},
            {"sampler", "euler"},
            {"scheduler", "simple"},
            {"steps", turbo ? "8" : "50"},
            {"cfg_scale", turbo ? "1" : "5"}};
}

}  // namespace

const Family z_image_family = {
    .name = "z-image",
    .title = "Z-Image",
    .recognises = [](const ModelFiles& files) { return files.has_prefix("z_image.") ? 1 : 0; },
    .denoiser = "z_image",
    .text = {.context = {{{.encoder = "llm"}}},
             .mixes_lengths = true,
             .chat_template = "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"},
    .latent = latents::flux(),
    .prediction = {.flow = true, .flow_shift = [](const ModelFiles&) { return FlowShift{.fixed = 3}; }},
    .defaults = defaults,
};

}  // namespace sdcpp
