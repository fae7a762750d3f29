// Helpers that several transformers share.
#pragma once

#include "nn/graph.h"

namespace sdcpp {

// x / 2 * (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) (Hendrycks & Gimpel 2016), in f32.
ggml_tensor* gelu_tanh(Graph& g, ggml_tensor* x);

// Part `number` of `count` along the innermost side of [N, count * C], as [N, 1, C].
ggml_tensor* chunk(Graph& g, ggml_tensor* x, int64_t number, int64_t count);

ggml_tensor* one_plus(Graph& g, ggml_tensor* x);

// Tokens [first, first + count) of x [N, T, C].
ggml_tensor* tokens_of(Graph& g, ggml_tensor* x, int64_t first, int64_t count);

}  // namespace sdcpp
