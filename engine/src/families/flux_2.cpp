// FLUX.2 klein (Black Forest Labs 2026): 4B and 9B, distilled to four steps, and the models that they were made of.
#include "families/family.h"

namespace sdcpp {
namespace {

// The two differ in nothing but values. A diffusers folder tells, else the file's name does.
bool is_distilled(const ModelFiles& files) {
    const Json& pipeline = files.config()["pipeline"];
    if (pipeline.object()) return pipeline.boolean_or("is_distilled", false);
    return !denoiser_is_named(files, flux_2_family, "base");
}

Defaults defaults(const ModelFiles& files) {
    const bool distilled = is_distilled(files);
    return {{"width", "1024"},
            {"height", "1024"},
            {"sampler", "euler"},
            {"scheduler", "simple"},
            {"clip_skip", "1"},
            {"guidance", "4"},
            {"steps", distilled ? "4" : "50"},
            {"cfg_scale", distilled ? "1" : "4"}};
}

// Published fits for 10 and for 200 steps, between which it goes in a straight line; large pictures take the second.
double shift(double patches, int steps) {
    const double for_10 = 8.73809524e-5 * patches + 1.89833333, for_200 = 1.6927e-4 * patches + 0.45666666;
    if (patches > 4300) return for_200;
    return for_200 + (for_200 - for_10) / 190 * (steps - 200);
}

}  // namespace

const Family flux_2_family = {
    .name = "flux.2",
    .title = "FLUX.2",
    .recognises = [](const ModelFiles& files) { return files.has_prefix("flux_2.") ? 1 : 0; },
    .denoiser = "flux_2",
    .text = {.context = {{{.encoder = "llm", .layers = {9, 18, 27}}}},
             .chat_template = "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n",
             .language_model = {"Qwen3", 1e6},
             .lengths = {{"llm", [](const ModelFiles&) { return 512; }}}},
    .latent = latents::flux_2(),
    .prediction = {.flow = true, .flow_shift = [](const ModelFiles&) { return FlowShift{.logarithm = shift}; }},
    .defaults = defaults,
    .references = [](const ModelFiles&) -> std::optional<References> { return References{}; },
};

}  // namespace sdcpp
