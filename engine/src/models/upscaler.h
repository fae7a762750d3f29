// The interface of networks that make pictures larger.
#pragma once

#include "nn/network.h"

namespace sdcpp {

// Values in and out: "x", pictures [N, 3, H, W] in 0..1 to [N, 3, H * scale(), W * scale()]. The sides must be whole
// multiples of multiple().
class Upscaler : public Network {
  public:
    using Network::Network;
    virtual int64_t scale() const = 0;
    virtual int64_t multiple() const { return 1; }
    // How far a pixel of the result sees in the picture, as a rule of thumb; tiles share at least so many.
    virtual int64_t reach() const { return 16; }
};

// [1, C s s, H, W] to [1, C, H s, W s]: channels become pixels (Shi et al. 2016).
ggml_tensor* pixel_shuffle(Graph& g, ggml_tensor* x, int64_t factor);
// [1, C, H s, W s] to [1, C s s, H, W], the other way.
ggml_tensor* pixel_unshuffle(Graph& g, ggml_tensor* x, int64_t factor);

}  // namespace sdcpp
