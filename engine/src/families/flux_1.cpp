// FLUX.1 (Black Forest Labs 2024): dev, which takes a scale of guidance, and schnell, distilled to four steps.
#include "families/family.h"

namespace sdcpp {
namespace {

bool is_dev(const ModelFiles& files) { return files.has_prefix("flux.guidance_in."); }

Defaults defaults(const ModelFiles& files) {
    return {{"width", "1024"},       {"height", "1024"}, {"sampler", "euler"},
            {"scheduler", "simple"}, {"cfg_scale", "1"}, {"steps", is_dev(files) ? "20" : "4"},
            {"guidance", "3.5"},     {"clip_skip", "1"}};
}

// dev moves its levels of noise by the picture's size, schnell does not.
FlowShift shift(const ModelFiles& files) { return {.fixed = 1, .dynamic = is_dev(files)}; }

}  // namespace

const Family flux_1 = {
    .name = "flux.1",
    .title = "FLUX.1",
    .recognises = [](const ModelFiles& files) { return files.has_prefix("flux.") ? 1 : 0; },
    .denoiser = "flux",
    .text = {.context = {{{.encoder = "t5", .layers_off = {0}, .normed = true}}},
             .pooled = {{.encoder = "clip_l", .projected = false}},
             .lengths = {{"t5", [](const ModelFiles& files) { return is_dev(files) ? 512 : 256; }}}},
    .latent = latents::flux(),
    .prediction = {.flow = true, .flow_shift = shift},
    .defaults = defaults,
};

}  // namespace sdcpp
