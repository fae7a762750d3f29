#include "models/transformer_parts.h"

namespace sdcpp {

ggml_tensor* chunk(Graph& g, ggml_tensor* x, int64_t number, int64_t count) {
    const int64_t width = x->ne[0] / count;
    return ggml_cont(g.context, ggml_view_3d(g.context, x, width, 1, x->ne[1], x->nb[1], x->nb[1],
                                             static_cast<size_t>(number * width) * x->nb[0]));
}

ggml_tensor* one_plus(Graph& g, ggml_tensor* x) { return ggml_scale_bias(g.context, x, 1, 1); }

ggml_tensor* value_or_null(const Values& v, const std::string& name) {
    const auto found = v.find(name);
    return found == v.end() ? nullptr : found->second;
}

ggml_tensor* tokens_of(Graph& g, ggml_tensor* x, int64_t first, int64_t count) {
    return ggml_cont(g.context, ggml_view_3d(g.context, x, x->ne[0], count, x->ne[2], x->nb[1], x->nb[2],
                                             static_cast<size_t>(first) * x->nb[1]));
}

}  // namespace sdcpp
