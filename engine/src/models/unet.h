// The UNet of Stable Diffusion 1.x (Rombach et al. 2022), any widths, depths and context.
#pragma once

#include "models/network.h"

namespace sdcpp {

// Values in: "x" [N, C, H, W] noisy latent, "time" [N, M] sinusoids of the timestep, "context" [N, T, D].
// Out: "x" [N, C', H, W], the prediction.
class UNet : public Network {
  public:
    explicit UNet(const ModelFiles& files);

    int64_t in_channels() const { return in_channels_; }
    int64_t out_channels() const { return out_channels_; }
    int64_t model_channels() const { return model_channels_; }
    int64_t context_width() const { return context_width_; }
    int64_t multiple() const { return multiple_; }  // latent sides must be whole multiples of this

  private:
    int64_t in_channels_, out_channels_, model_channels_, context_width_, multiple_ = 1;
};

}  // namespace sdcpp
