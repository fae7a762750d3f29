#include "families/fit.h"

#include <algorithm>

#include "base/error.h"
#include "models/autoencoder.h"
#include "models/denoiser.h"
#include "models/taesd.h"
#include "models/text_encoder.h"

namespace sdcpp {
namespace {

// The width of the states that the family's text encoders make together; 0 if one is not there.
int64_t text_width(const std::vector<NamedNetwork>& networks, const Family& family) {
    int64_t widest = 0;
    for (const auto& row : family.text.context) {
        int64_t width = 0;
        for (const TextStates& one : row) {
            const auto found = std::find_if(networks.begin(), networks.end(),
                                            [&](const NamedNetwork& named) { return named.part->name == one.encoder; });
            if (found == networks.end()) return 0;
            width +=
                static_cast<const TextEncoder&>(*found->network).traits().width * static_cast<int64_t>(one.count());
        }
        widest = std::max(widest, width);
    }
    return widest;
}

}  // namespace

void require_fit(const std::vector<NamedNetwork>& networks, const Family& family) {
    const auto find = [&](Role role) -> const NamedNetwork* {
        const auto found = std::find_if(networks.begin(), networks.end(),
                                        [&](const NamedNetwork& named) { return named.part->role == role; });
        return found == networks.end() ? nullptr : &*found;
    };
    const NamedNetwork *denoiser = find(Role::denoiser), *decoder = find(Role::decoder);
    int64_t channels = family.latent.channels;
    if (decoder) channels = static_cast<const Autoencoder&>(*decoder->network).latent_channels();
    if (denoiser) {
        const auto& net = static_cast<const Denoiser&>(*denoiser->network);
        // none; depths; a picture to be edited; a mask and the picture under it
        const int64_t extra = net.extra_channels(), latent = net.out_channels();
        if (extra != 0 && !net.takes_extra_channels())
            fail(SDCPP_UNSUPPORTED_MODEL, "a ", net.name(), " with ", net.in_channels(), " input channels, ", extra,
                 " beside the latent's: a mask or pictures in them are supported for UNets alone; take a model for "
                 "text-to-image");
        if (extra != 0 && extra != 1 && extra != latent && extra != latent + 1)
            fail(SDCPP_UNSUPPORTED_MODEL, "a diffusion model with ", net.in_channels(), " input channels, ", extra,
                 " beside the latent's: supported are one (depths), ", latent, " (editing) and ", latent + 1,
                 " (inpainting)");
        if (decoder && net.out_channels() != channels)
            fail(SDCPP_UNSUPPORTED_MODEL, "the diffusion model makes latents of ", net.out_channels(),
                 " channels, the VAE takes ", channels);
        if (const int64_t width = text_width(networks, family); width > 0 && width != net.width_of("context"))
            fail(SDCPP_UNSUPPORTED_MODEL, "the diffusion model takes text states ", net.width_of("context"),
                 " wide, the text encoder makes ", width, "; they belong to different models");
        channels = net.out_channels();
    }
    for (const Role role : {Role::tiny_decoder, Role::tiny_encoder})
        if (const NamedNetwork* tiny = find(role); tiny && (denoiser || decoder)) {
            if (family.latent.tiny_autoencoder.empty())
                fail(SDCPP_UNSUPPORTED_MODEL, "the ", tiny->part->title, " does not decode latents of ", family.title,
                     "; leave it out");
            if (const int64_t own = static_cast<const Taesd&>(*tiny->network).latent_channels(); own != channels)
                fail(SDCPP_UNSUPPORTED_MODEL, "the ", tiny->part->title, " takes latents of ", own,
                     " channels, the model's have ", channels, "; it belongs to another family of models");
        }
}

}  // namespace sdcpp
