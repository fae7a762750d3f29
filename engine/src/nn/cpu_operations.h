// Operations for the CPU device, built on matrix products (GEMM). Each returns null if it is not the better
// choice, or if the device has no such products. Results do not depend on the number of threads, nor an image's on
// the others of its batch.
#pragma once

#include "nn/graph.h"

namespace sdcpp::cpu {

// x [..., T, in] by w [out, in], plus `bias` [out] unless it is null.
ggml_tensor* linear(Graph& g, ggml_tensor* x, ggml_tensor* w, ggml_tensor* bias);

// x [N, in, H, W] by w [out, in, h, w].
ggml_tensor* convolution(Graph& g, ggml_tensor* x, ggml_tensor* w, ggml_tensor* bias, int stride, int padding);

// softmax(q k^T * scale + mask) v as attention() in nn/layers.h.
ggml_tensor* attention(Graph& g, ggml_tensor* q, ggml_tensor* k, ggml_tensor* v, int64_t heads, float scale,
                       ggml_tensor* mask);

// Does the same as apply_rope() in nn/layers.h.
ggml_tensor* apply_rope(Graph& g, ggml_tensor* x, ggml_tensor* rope, int64_t heads);

// The first half of x's innermost side times gelu of the second.
ggml_tensor* geglu(Graph& g, ggml_tensor* x);

// x [N, C, H, W]; y * sigmoid(y) of the normalized y if `silu`.
ggml_tensor* group_norm(Graph& g, ggml_tensor* x, ggml_tensor* weight, ggml_tensor* bias, int groups, float eps,
                        bool silu);

// x [N, C, H, W] as ChannelNorm in nn/layers.h.
ggml_tensor* channel_norm(Graph& g, ggml_tensor* x, ggml_tensor* gamma, bool silu);

}  // namespace sdcpp::cpu
