// The transformer block that CLIP's text models and its vision models share (Radford et al. 2021).
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "nn/layers.h"

namespace sdcpp {

using ClipActivation = ggml_tensor* (*)(ggml_context*, ggml_tensor*);
// By its name in configs: "gelu", else "quick_gelu".
ClipActivation clip_activation(std::string_view name);

struct ClipAttention {
    Linear q_proj, k_proj, v_proj, out_proj;
    int heads;

    ClipAttention(const Scope& s, int64_t width, int head_count);
    ggml_tensor* operator()(Graph& g, ggml_tensor* x, ggml_tensor* mask) const;
};

struct ClipLayer {
    LayerNorm layer_norm1;
    ClipAttention self_attn;
    LayerNorm layer_norm2;
    Linear fc1, fc2;
    ClipActivation activation;

    ClipLayer(const Scope& s, int64_t width, int heads, ClipActivation act);
    // `mask` as attention() takes it.
    ggml_tensor* operator()(Graph& g, ggml_tensor* x, ggml_tensor* mask = nullptr) const;
};

// One state to a vector: open_clip keeps the matrix as [C, P], transformers as a linear layer.
struct ClipProjection {
    const Weight* matrix = nullptr;
    std::optional<Linear> linear;

    ClipProjection(const Scope& s, const std::string& name, int64_t width, int64_t out);
    // P of the tensor of this name; 0 if there is none.
    static int64_t width_of(const Scope& s, const std::string& name);
    ggml_tensor* operator()(Graph& g, ggml_tensor* x) const;
};

}  // namespace sdcpp
