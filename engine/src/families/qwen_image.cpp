// Qwen-Image (Qwen team 2025), the release of December 2025 included.
#include "families/family.h"

namespace sdcpp {

const Family qwen_image_family = {
    .name = "qwen-image",
    .title = "Qwen-Image",
    .recognises = [](const ModelFiles& files) { return files.has_prefix("qwen_image.") ? 1 : 0; },
    .denoiser = "qwen_image",
    .text = {.context = {{{.encoder = "llm", .layers_off = {0}, .normed = true}}},
             .mixes_lengths = true,
             .chat_template = "<|im_start|>system\nDescribe the image by detailing the color, shape, size, texture, "
                              "quantity, text, spatial relationships of the objects and background:<|im_end|>\n"
                              "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n",
             .for_empty = " ",
             .left_out = 34,
             .language_model = {"Qwen2.5-VL-7B", 1e6}},
    .autoencoder = "wan_vae",
    .latent = latents::wan(),
    .prediction = {.flow = true,
                   .flow_shift =
                       [](const ModelFiles&) {
                           return FlowShift{.dynamic = true, .many = 8192, .high = 0.9, .terminal = 0.02};
                       }},
    .defaults =
        [](const ModelFiles&) {
            return Defaults{{"width", "1328"},  {"height", "1328"}, {"sampler", "euler"}, {"scheduler", "simple"},
                            {"clip_skip", "1"}, {"steps", "50"},    {"cfg_scale", "4"},   {"guidance_norm", "1"}};
        },
};

}  // namespace sdcpp
