// AutoencoderKL (Rombach et al. 2022): pictures to latents and back.
#pragma once

#include "models/autoencoder.h"

namespace sdcpp {

// The base of the two halves.
class VaeHalf : public Autoencoder {
  public:
    int64_t latent_channels() const override { return latent_channels_; }
    int64_t factor() const override { return factor_; }
    bool wide_range() const override { return true; }  // SDXL's above all

  protected:
    explicit VaeHalf(const ModelFiles& files);
    void resnet_stage(const Scope& s, int64_t& width);  // which it changes
    void middle_stages(const Scope& s, int64_t width);

    int64_t latent_channels_ = 0, factor_ = 1;
    int groups_;  // groups of the group norms
    float batch_norm_eps_;
};

// FLUX.2's autoencoder has its latents in patches of 2x2 places, each value of a patch normed by statistics of its own
// ("bn"). Here the patches are the latents: four times the channels, and half as many places along each side.

// Values in: "x" [N, latent, h, w], already divided by the scaling factor. Out: "x" [N, 3, h*f, w*f] in -1..1.
class VaeDecoder : public VaeHalf {
  public:
    explicit VaeDecoder(const ModelFiles& files);
};

// Values in: "x" [N, 3, H, W] in -1..1. Out: "x" [N, 2 * latent, H/f, W/f]: mean and log variance, unscaled.
class VaeEncoder : public VaeHalf {
  public:
    explicit VaeEncoder(const ModelFiles& files);
};

}  // namespace sdcpp
