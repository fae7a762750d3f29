#include "models/clip_layer.h"

namespace sdcpp {
namespace {

// x * sigmoid(1.702 x); ggml's own operation of that name rounds to f16.
ggml_tensor* quick_gelu(ggml_context* c, ggml_tensor* x) {
    return ggml_scale(c, ggml_silu(c, ggml_scale(c, x, 1.702f)), 1 / 1.702f);
}

}  // namespace

ClipActivation clip_activation(std::string_view name) { return name == "gelu" ? ggml_gelu_erf : quick_gelu; }

ClipAttention::ClipAttention(const Scope& s, int64_t width, int head_count)
    : q_proj(s / "q_proj", width, width),
      k_proj(s / "k_proj", width, width),
      v_proj(s / "v_proj", width, width),
      out_proj(s / "out_proj", width, width),
      heads(head_count) {}

ggml_tensor* ClipAttention::operator()(Graph& g, ggml_tensor* x, ggml_tensor* mask) const {
    return out_proj(g, attention(g, q_proj(g, x), k_proj(g, x), v_proj(g, x), heads, mask));
}

ClipLayer::ClipLayer(const Scope& s, int64_t width, int heads, ClipActivation act)
    : layer_norm1(s / "layer_norm1", width),
      self_attn(s / "self_attn", width, heads),
      layer_norm2(s / "layer_norm2", width),
      fc1(s / "mlp" / "fc1", width, s.side("mlp.fc1.weight", 0)),
      fc2(s / "mlp" / "fc2", fc1.out(), width),
      activation(act) {}

ggml_tensor* ClipLayer::operator()(Graph& g, ggml_tensor* x, ggml_tensor* mask) const {
    x = ggml_add(g.context, x, self_attn(g, layer_norm1(g, x), mask));
    return ggml_add(g.context, x, fc2(g, activation(g.context, fc1(g, layer_norm2(g, x)))));
}

ClipProjection::ClipProjection(const Scope& s, const std::string& name, int64_t width, int64_t out) {
    if (s.has(name + ".weight"))
        linear.emplace(s / name, width, out, WeightKind::edge);
    else
        matrix = s.weight(name, WeightKind::vector, {width, out});
}

int64_t ClipProjection::width_of(const Scope& s, const std::string& name) {
    if (!s.has(name)) return 0;
    return s.has(name + ".weight") ? s.side(name + ".weight", 0) : s.side(name, 1);
}

ggml_tensor* ClipProjection::operator()(Graph& g, ggml_tensor* x) const {
    if (linear) return (*linear)(g, x);
    return ggml_mul_mat(g.context, ggml_cont(g.context, ggml_transpose(g.context, matrix->tensor)), x);
}

}  // namespace sdcpp
