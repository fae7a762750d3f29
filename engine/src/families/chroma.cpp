// Chroma (Lodestone Rock 2025): FLUX.1's transformer with T5 alone and guidance from a negative prompt; Flash is
// distilled.
#include "families/family.h"

namespace sdcpp {
namespace {

Defaults defaults(const ModelFiles& files) {
    const bool flash = denoiser_is_named(files, chroma, "flash");
    return {{"width", "1024"},
            {"height", "1024"},
            {"sampler", "euler"},
            {"scheduler", "simple"},
            {"clip_skip", "1"},
            {"steps", flash ? "16" : "26"},
            {"cfg_scale", flash ? "1" : "4"}};
}

}  // namespace

// The network sees one token of padding, and T5 none.
const Family chroma = {
    .name = "chroma",
    .title = "Chroma",
    .recognises = [](const ModelFiles& files) { return files.has_prefix("flux.distilled_guidance_layer.") ? 2 : 0; },
    .denoiser = "flux",
    .text = {.context = {{{.encoder = "t5", .layers_off = {0}, .normed = true, .hides_padding = true}}},
             .mixes_lengths = true,
             .lengths = {{"t5", [](const ModelFiles&) { return one_more; }}}},
    .latent = latents::flux(),
    .prediction = {.flow = true, .flow_shift = [](const ModelFiles&) { return FlowShift{.dynamic = true}; }},
    .defaults = defaults,
};

}  // namespace sdcpp
