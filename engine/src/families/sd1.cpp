// Stable Diffusion 1.x (Rombach et al. 2022).
#include "families/family.h"

namespace sdcpp {

const Family sd1 = {
    .name = "sd1",
    .title = "Stable Diffusion 1.x",
    .recognises = [](const ModelFiles& files) { return files.has_prefix("unet.") ? 1 : 0; },
    .denoiser = "unet",
    .text = {.context = {{{.encoder = "clip_l", .normed = true}}}},
    .latent = latents::sd(),
    .prediction = {.aligned_sigmas = aligned_sigmas_sd1,
                   .geometric_sigmas = geometric_sigmas_sd1,
                   .v_prediction = marked_v,
                   .mends_schedulers = true},
    .defaults = [](const ModelFiles&) -> Defaults { return {}; },
    .public_prefixes = {{"clip_l", "cond_stage_model.transformer.text_model."}},
};

}  // namespace sdcpp
