// The interface of networks that denoise: noisy latents, a level of noise and conditionings in, the family's kind of
// prediction out.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "generation/latent.h"
#include "models/conditioning.h"
#include "nn/network.h"

namespace sdcpp {

// Latents to be denoised, each with its conditioning.
struct Noisy {
    std::vector<const Conditioning*> conditionings;  // one a row
    std::vector<bool> negative;                      // one a row: whether its conditioning is negative
    LatentShape shape;                               // one row's
    std::vector<float> x;                       // [rows, C, frames, height, width], scaled as the network takes them
    std::vector<float> timesteps;               // [rows], 0 (clean) to 1000 (noise)
    int picture_height = 0, picture_width = 0;  // pixels
    // Latents of pictures that all rows are to follow, [C, height, width] each.
    struct Reference {
        LatentShape shape;
        std::span<const float> x;
    };
    std::vector<Reference> references{};
    std::vector<Array> more{};  // the run's other inputs, by name, such as "guidance" [rows]

    int64_t rows() const { return static_cast<int64_t>(conditionings.size()); }
    const Array* find(std::string_view name) const {
        for (const Array& array : more)
            if (array.name == name) return &array;
        return nullptr;
    }
};

// Blocks of one form, one behind the other, and the stages around them, by the stages' names.
struct BlockList {
    std::string name;                 // "layers": the blocks are the stages "layers.0", "layers.0.1", "layers.1" …
    std::string before, after;        // the stage ahead of the first block; the one behind all blocks, the last
    std::vector<std::string> shared;  // stages whose values blocks take
    std::vector<std::string> states;  // values that blocks change; the first has the picture's tokens at its end
};

class Denoiser : public Network {
  public:
    using Network::Network;

    virtual int64_t in_channels() const = 0;
    virtual int64_t out_channels() const = 0;
    // Input channels beside the latent's, which tell it of a picture.
    int64_t extra_channels() const { return in_channels() - out_channels(); }
    virtual int64_t multiple() const = 0;  // latent sides must be whole multiples of this

    // The arrays that it takes of a conditioning, by name, and the length of each one's innermost side.
    struct Taken {
        std::string name;
        int64_t width;
    };
    virtual std::vector<Taken> conditioning() const = 0;
    // The width of one of them; 0 if it takes none of this name.
    int64_t width_of(std::string_view name) const {
        for (const Taken& taken : conditioning())
            if (taken.name == name) return taken.width;
        return 0;
    }
    // Whether it takes a mask, a picture or depths in input channels beside the latent's.
    virtual bool takes_extra_channels() const { return false; }
    // Whether it takes reference pictures.
    virtual bool takes_references() const { return false; }
    // Whether it was distilled to take a scale of guidance (an array "guidance" [rows]).
    virtual bool takes_guidance() const { return false; }

    // Its blocks, of which some can be left out; no name: it has no such list.
    virtual BlockList blocks() const { return {}; }

    virtual std::vector<Array> inputs(const Noisy& noisy) const = 0;
    // The network's result as [rows, C, frames, height, width].
    virtual std::vector<float> prediction(const Array& result, const Noisy&) const {
        return {result.floats().begin(), result.floats().end()};
    }
};

// Sinusoids of each value, [values, width], cosines first (Ho et al. 2020; the order is Stable Diffusion's).
std::vector<float> sinusoids(std::span<const float> values, int64_t width);

}  // namespace sdcpp
