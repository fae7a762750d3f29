// Stable Diffusion 3 and 3.5 (Stability AI 2024): medium, large and large-turbo.
#include "families/family.h"

namespace sdcpp {
namespace {

Defaults defaults(const ModelFiles& files) {
    const bool turbo = denoiser_is_named(files, sd3_family, "turbo");
    const bool first = !files.find("sd3.joint_blocks.0.x_block.attn.ln_q.weight");  // version 3
    return {{"width", "1024"},
            {"height", "1024"},
            {"sampler", "euler"},
            {"scheduler", "discrete"},
            {"clip_skip", "2"},
            {"steps", turbo ? "4" : "28"},
            {"cfg_scale", turbo   ? "1"
                          : first ? "7"
                                  : "4.5"}};
}

}  // namespace

const Family sd3_family = {
    .name = "sd3",
    .title = "Stable Diffusion 3",
    .recognises = [](const ModelFiles& files) { return files.has_prefix("sd3.") ? 1 : 0; },
    .denoiser = "sd3",
    .text = {.context = {{{.encoder = "clip_l"}, {.encoder = "clip_g"}},
                         {{.encoder = "t5", .layers_off = {0}, .normed = true}}},
             .pooled = {{.encoder = "clip_l"}, {.encoder = "clip_g"}},
             .lengths = {{"t5", [](const ModelFiles&) { return 256; }}}},
    .latent = latents::sd3(),
    .prediction = {.flow = true, .flow_shift = [](const ModelFiles&) { return FlowShift{.fixed = 3}; }},
    .defaults = defaults,
};

}  // namespace sdcpp
