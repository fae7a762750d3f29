// TAESD (Ollin Boer Bohan): a tiny autoencoder for the latents of Stable Diffusion, for previews and fast decoding.
#pragma once

#include "nn/network.h"

namespace sdcpp {

// Values in and out: "x". Decoder: scaled latent [N, 4, h, w] to picture [N, 3, 8h, 8w] in 0..1; encoder the other way.
class Taesd : public Network {
  public:
    enum class Side { encoder, decoder };
    Taesd(const ModelFiles& files, Side side);
    int64_t latent_channels() const { return latent_channels_; }

  private:
    int64_t latent_channels_;
};

}  // namespace sdcpp
