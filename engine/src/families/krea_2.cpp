// Krea 2 (Krea 2026): Raw, and Turbo, distilled to eight steps.
#include <cmath>

#include "families/family.h"

namespace sdcpp {
namespace {

// The two differ in nothing but values. A diffusers folder tells; else the file's name does, and Turbo is what most
// use.
bool is_turbo(const ModelFiles& files) {
    const Json& pipeline = files.config()["pipeline"];
    if (pipeline.object()) return pipeline.boolean_or("is_distilled", false);
    if (denoiser_is_named(files, krea_2, "turbo")) return true;
    return !denoiser_is_named(files, krea_2, "raw") && !denoiser_is_named(files, krea_2, "base");
}

// Guidance counts as usual here. Krea's own scale is less by one.
Defaults defaults(const ModelFiles& files) {
    const bool turbo = is_turbo(files);
    return {{"width", "1024"},
            {"height", "1024"},
            {"sampler", "euler"},
            {"scheduler", "simple"},
            {"clip_skip", "1"},
            {"steps", turbo ? "8" : "28"},
            {"cfg_scale", turbo ? "1" : "5.5"}};
}

FlowShift shift(const ModelFiles& files) {
    if (is_turbo(files)) return {.fixed = std::exp(1.15), .settled = true};
    return {.dynamic = true, .many = 6400};
}

}  // namespace

const Family krea_2 = {
    .name = "krea-2",
    .title = "Krea 2",
    .recognises = [](const ModelFiles& files) { return files.has_prefix("krea.") ? 1 : 0; },
    .denoiser = "krea",
    .text = {.context = {{{.encoder = "llm", .layers = {2, 5, 8, 11, 14, 17, 20, 23, 26, 29, 32, 35}}}},
             .mixes_lengths = true,
             .chat_template = "<|im_start|>system\nDescribe the image by detailing the color, shape, size, texture, "
                              "quantity, text, spatial relationships of the objects and background:<|im_end|>\n"
                              "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n",
             .left_out = 34,
             .language_model = {"Qwen3-VL-4B", 5e6}},
    .autoencoder = "wan_vae",
    .latent = latents::wan(),
    .prediction = {.flow = true, .flow_shift = shift},
    .defaults = defaults,
};

}  // namespace sdcpp
