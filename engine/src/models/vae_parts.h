// What autoencoders share.
#pragma once

#include <memory>
#include <utility>

#include "nn/layers.h"
#include "nn/network.h"

namespace sdcpp {

// A function of "x" alone, as a stage.
template <typename Layer>
auto on_x(Layer layer) {
    return
        [layer = std::make_shared<Layer>(std::move(layer))](Graph& g, Values& v) { v["x"] = (*layer)(g, v.at("x")); };
}

struct VaeUpsample {
    Conv2d conv;
    ggml_tensor* operator()(Graph& g, ggml_tensor* x) const { return conv(g, upsample(g, x)); }
};

struct VaeDownsample {
    Conv2d conv;
    // One row and column of zeros at the far sides only, as the references pad.
    ggml_tensor* operator()(Graph& g, ggml_tensor* x) const { return conv(g, ggml_pad(g.context, x, 1, 1, 0, 0)); }
};

}  // namespace sdcpp
