#include "models/transformer_parts.h"

#include <cmath>
#include <numbers>

namespace sdcpp {

// x times a sigmoid, since ggml's operation of that name goes through an f16 table on processors.
ggml_tensor* gelu_tanh(Graph& g, ggml_tensor* x) {
    ggml_context* c = g.context;
    const float twice = 2 * std::sqrt(2 / std::numbers::pi_v<float>);
    ggml_tensor* slope = ggml_scale_bias(c, ggml_sqr(c, x), twice * 0.044715f, twice);
    return ggml_mul(c, x, ggml_sigmoid(c, ggml_mul(c, x, slope)));
}

ggml_tensor* chunk(Graph& g, ggml_tensor* x, int64_t number, int64_t count) {
    const int64_t width = x->ne[0] / count;
    return ggml_cont(g.context, ggml_view_3d(g.context, x, width, 1, x->ne[1], x->nb[1], x->nb[1],
                                             static_cast<size_t>(number * width) * x->nb[0]));
}

ggml_tensor* one_plus(Graph& g, ggml_tensor* x) { return ggml_scale_bias(g.context, x, 1, 1); }

ggml_tensor* tokens_of(Graph& g, ggml_tensor* x, int64_t first, int64_t count) {
    return ggml_cont(g.context, ggml_view_3d(g.context, x, x->ne[0], count, x->ne[2], x->nb[1], x->nb[2],
                                             static_cast<size_t>(first) * x->nb[1]));
}

}  // namespace sdcpp
