// AutoencoderKL (Rombach et al. 2022): pictures to latents and back.
#pragma once

#include "models/network.h"

namespace sdcpp {

// Values in: "x" [N, latent, h, w], already divided by the scaling factor. Out: "x" [N, 3, h*f, w*f] in -1..1.
class VaeDecoder : public Network {
  public:
    explicit VaeDecoder(const ModelFiles& files);
    int64_t latent_channels() const { return latent_channels_; }
    int64_t factor() const { return factor_; }
    bool wide_range() const override { return true; }  // SDXL's above all

  private:
    int64_t latent_channels_, factor_ = 1;
};

// Values in: "x" [N, 3, H, W] in -1..1. Out: "x" [N, 2 * latent, H/f, W/f]: mean and log variance, unscaled.
class VaeEncoder : public Network {
  public:
    explicit VaeEncoder(const ModelFiles& files);
    int64_t latent_channels() const { return latent_channels_; }
    int64_t factor() const { return factor_; }
    bool wide_range() const override { return true; }  // SDXL's above all

  private:
    int64_t latent_channels_, factor_ = 1;
};

}  // namespace sdcpp
