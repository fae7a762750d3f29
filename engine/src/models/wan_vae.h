// The causal 3D autoencoder of Wan 2.1 (Wan team 2025), which Qwen-Image and others share, for a single frame: pictures
// to latents and back. A convolution over time has zeros for the frames before the first, so it acts as one over a
// picture (Scope::weight takes its last slice), and the layers that join or part frames do nothing.
#pragma once

#include "models/autoencoder.h"

namespace sdcpp {

// The base of the two halves.
class WanVaeHalf : public Autoencoder {
  public:
    int64_t latent_channels() const override { return latent_channels_; }
    int64_t factor() const override { return factor_; }
    bool wide_range() const override { return true; }

  protected:
    explicit WanVaeHalf(const ModelFiles& files) : Autoencoder(files, "wan_vae") {}
    void residual_stage(const Scope& s, int64_t& width);  // which it changes
    void middle_stages(const Scope& s, int64_t width);

    int64_t latent_channels_ = 0, factor_ = 1;
};

// Values in: "x" [N, latent, h, w], without the latent space's mean and deviation. Out: "x" [N, 3, h*f, w*f] in -1..1.
class WanVaeDecoder : public WanVaeHalf {
  public:
    explicit WanVaeDecoder(const ModelFiles& files);
};

// Values in: "x" [N, 3, H, W] in -1..1. Out: "x" [N, 2 * latent, H/f, W/f]: mean and log variance.
class WanVaeEncoder : public WanVaeHalf {
  public:
    explicit WanVaeEncoder(const ModelFiles& files);
};

}  // namespace sdcpp
