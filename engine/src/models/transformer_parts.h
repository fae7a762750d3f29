// Helpers that several transformers share.
#pragma once

#include "nn/graph.h"

namespace sdcpp {

// Part `number` of `count` along the innermost side of [N, count * C], as [N, 1, C].
ggml_tensor* chunk(Graph& g, ggml_tensor* x, int64_t number, int64_t count);

ggml_tensor* one_plus(Graph& g, ggml_tensor* x);

// Tokens [first, first + count) of x [N, T, C].
ggml_tensor* tokens_of(Graph& g, ggml_tensor* x, int64_t first, int64_t count);

// A value that only some runs have.
ggml_tensor* value_or_null(const Values& v, const std::string& name);

}  // namespace sdcpp
