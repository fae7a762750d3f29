// Stable Diffusion XL and its refiner (Podell et al. 2023).
#include "families/family.h"
#include "models/unet.h"

namespace sdcpp {
namespace {

bool has_sizes(const ModelFiles& files) { return files.find("unet.label_emb.0.0.weight") != nullptr; }

Defaults defaults(const ModelFiles&) { return {{"width", "1024"}, {"height", "1024"}, {"clip_skip", "2"}}; }

}  // namespace

const Family sdxl = {
    .name = "sdxl",
    .title = "Stable Diffusion XL",
    .recognises = [](const ModelFiles& files) { return has_sizes(files) ? 3 : 0; },
    .denoiser = "unet",
    .text = {.context = {{{.encoder = "clip_l"}, {.encoder = "clip_g"}}},
             .pooled = {{.encoder = "clip_g"}},
             .zeros_for_empty_negative = true},
    .latent = latents::sdxl(),
    .prediction = {.aligned_sigmas = aligned_sigmas_sdxl,
                   .geometric_sigmas = geometric_sigmas_sdxl,
                   .v_prediction = marked_v},
    .defaults = defaults,
};

const Family sdxl_refiner = {
    .name = "sdxl-refiner",
    .title = "Stable Diffusion XL's refiner",
    .recognises =
        [](const ModelFiles& files) {
            return has_sizes(files) && UNet::sizes_of(files) == UNet::refiner_sizes ? 4 : 0;
        },
    .denoiser = "unet",
    .text = {.context = {{{.encoder = "clip_g"}}}, .pooled = {{.encoder = "clip_g"}}},
    .latent = latents::sdxl(),
    .prediction = {.aligned_sigmas = aligned_sigmas_sdxl,
                   .geometric_sigmas = geometric_sigmas_sdxl,
                   .v_prediction = marked_v},
    .defaults = defaults,
};

}  // namespace sdcpp
