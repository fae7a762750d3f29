// The interface of autoencoders' halves: pictures to latents or back.
#pragma once

#include "nn/network.h"

namespace sdcpp {

class Autoencoder : public Network {
  public:
    using Network::Network;
    virtual int64_t latent_channels() const = 0;
    virtual int64_t factor() const = 0;  // pixels per latent side
};

}  // namespace sdcpp
