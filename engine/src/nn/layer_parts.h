// Helpers that several layers share.
#pragma once

#include "base/error.h"
#include "nn/graph.h"
#include "weights/weight.h"

namespace sdcpp {

// A layer's bias; null if the file has none.
inline const Weight* bias_of(const Scope& scope, int64_t channels) {
    return scope.has("bias") ? scope.weight("bias", WeightKind::vector, {channels}) : nullptr;
}

// Ends with an error what would end the process, or read beyond a tensor: a layer whose declaration has let another
// size of input pass.
inline void require_input(const Weight* weight, int64_t takes, int64_t given) {
    if (takes != given)
        fail(SDCPP_UNSUPPORTED_MODEL, "tensor ", weight->name, " takes ", takes,
             " values at a place, the network gives ", given, "; parts of different models do not go together");
}

inline ggml_tensor* tensor_of(const Weight* weight) { return weight ? weight->tensor : nullptr; }

// A vector over the channels of [N, C, H, W].
inline ggml_tensor* per_channel(Graph& g, const Weight* weight) {
    return ggml_reshape_4d(g.context, weight->tensor, 1, 1, weight->tensor->ne[0], 1);
}

// Makes a matrix product or a flash attention sum in f32; some devices sum products of f16 in f16. Newer versions of
// ggml have one name for it, and warn about the older two.
template <typename Tensor>
void sum_in_f32(Tensor* y) {
    if constexpr (requires { ggml_prec_set_acc(y, GGML_PREC_F32); })
        ggml_prec_set_acc(y, GGML_PREC_F32);
    else if (y->op == GGML_OP_FLASH_ATTN_EXT)
        ggml_flash_attn_ext_set_prec(y, GGML_PREC_F32);
    else
        ggml_mul_mat_set_prec(y, GGML_PREC_F32);
}

// Keeps the mean square of places that hold nothing but zeros from dividing by zero.
constexpr float smallest_square = 1e-24f;

// Whether the device computes `op`.
inline bool can(const Graph& g, const ggml_tensor* op) { return !g.kernels.supports || g.kernels.supports(op); }

}  // namespace sdcpp
