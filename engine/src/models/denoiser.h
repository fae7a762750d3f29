// What the networks that denoise have in common: noisy latents, a level of noise and what prompts say go in; what the
// family predicts comes out.
#pragma once

#include <span>

#include "nn/network.h"

namespace sdcpp {

// What a prompt says.
struct Conditioning {
    Output states;              // [1, 1, T, C] of the text encoders, side by side along C
    std::vector<float> pooled;  // [P], where the family uses it
};

// Latents to be denoised, each with its conditioning.
struct Noisy {
    struct Item {
        const Conditioning* conditioning = nullptr;
        bool unconditional = false;
    };
    std::vector<Item> items;
    int64_t height = 0, width = 0;  // of the latents
    std::vector<float> x;           // [items, C, height, width], scaled as the network takes them
    std::vector<float> timesteps;   // [items], 0 (clean) to 1000 (noise)
    int picture_height = 0, picture_width = 0;
};

class Denoiser : public Network {
  public:
    using Network::Network;

    virtual int64_t in_channels() const = 0;
    virtual int64_t out_channels() const = 0;
    virtual int64_t multiple() const = 0;       // latent sides must be whole multiples of this
    virtual int64_t context_width() const = 0;  // of the states it takes
    virtual int64_t pooled_width() const { return 0; }
    // Whether items whose states differ in length may go through it together.
    virtual bool mixes_lengths() const { return false; }

    virtual std::vector<Input> inputs(const Noisy& noisy) const = 0;
    // The network's result as [items, C, height, width].
    virtual std::vector<float> prediction(Output result, const Noisy&) const { return std::move(result.data); }
};

// Sinusoids of each value, [values, width], cosines first (Ho et al. 2020; the order is Stable Diffusion's).
std::vector<float> sinusoids(std::span<const float> values, int64_t width);

}  // namespace sdcpp
