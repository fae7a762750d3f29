#include "nn/layers.h"

#include <cmath>
#include <numbers>

#include "nn/cpu_operations.h"
#include "nn/layer_parts.h"

namespace sdcpp {

Linear::Linear(const Scope& scope, int64_t in, int64_t out, WeightKind kind)
    : weight_(scope.weight("weight", kind, {out, in})), bias_(bias_of(scope, out)) {}

ggml_tensor* Linear::operator()(Graph& g, ggml_tensor* x) const {
    require_input(weight_, weight_->tensor->ne[0], x->ne[0]);
    if (ggml_tensor* y = cpu::linear(g, x, weight_->tensor, tensor_of(bias_))) return y;
    ggml_tensor* y = ggml_mul_mat(g.context, weight_->tensor, x);
    // bf16 has the range of f32, and devices sum its products in f32; the mark would make them copy the weights to f32
    if (g.wide_range && weight_->tensor->type != GGML_TYPE_BF16) sum_in_f32(y);
    return bias_ ? ggml_add(g.context, y, bias_->tensor) : y;
}

GroupNorm::GroupNorm(const Scope& scope, int64_t channels, int groups, float eps)
    : weight_(scope.weight("weight", WeightKind::vector, {channels})),
      bias_(scope.weight("bias", WeightKind::vector, {channels})),
      groups_(groups),
      eps_(eps) {
    if (groups < 1 || channels % groups != 0)
        fail(SDCPP_UNSUPPORTED_MODEL, scope.name(), ": ", channels, " channels cannot be normalized in ", groups,
             " groups; give the right \"norm_num_groups\" in the model's config");
}

ggml_tensor* GroupNorm::operator()(Graph& g, ggml_tensor* x) const { return apply(g, x, false); }

ggml_tensor* GroupNorm::silu(Graph& g, ggml_tensor* x) const { return apply(g, x, true); }

ggml_tensor* GroupNorm::apply(Graph& g, ggml_tensor* x, bool silu) const {
    require_input(weight_, weight_->tensor->ne[0], x->ne[2]);
    if (ggml_tensor* y = cpu::group_norm(g, x, weight_->tensor, bias_->tensor, groups_, eps_, silu)) return y;
    ggml_tensor* y = ggml_group_norm(g.context, x, groups_, eps_);
    y = ggml_add(g.context, ggml_mul(g.context, y, per_channel(g, weight_)), per_channel(g, bias_));
    return silu ? ggml_silu(g.context, y) : y;
}

LayerNorm::LayerNorm(const Scope& scope, int64_t channels, float eps)
    : weight_(scope.weight("weight", WeightKind::vector, {channels})),
      bias_(scope.weight("bias", WeightKind::vector, {channels})),
      eps_(eps) {}

ggml_tensor* LayerNorm::operator()(Graph& g, ggml_tensor* x) const {
    require_input(weight_, weight_->tensor->ne[0], x->ne[0]);
    ggml_tensor* y = ggml_norm(g.context, x, eps_);
    return ggml_add(g.context, ggml_mul(g.context, y, weight_->tensor), bias_->tensor);
}

RmsNorm::RmsNorm(const Scope& scope, int64_t channels, float eps, float offset)
    : weight_(scope.weight("weight", WeightKind::vector, {channels})), eps_(eps), offset_(offset) {}

ggml_tensor* RmsNorm::operator()(Graph& g, ggml_tensor* x) const {
    require_input(weight_, weight_->tensor->ne[0], x->ne[0]);
    ggml_tensor* weight = weight_->tensor;
    if (offset_ != 0) weight = ggml_scale_bias(g.context, weight, 1, offset_);
    return ggml_mul(g.context, ggml_rms_norm(g.context, x, eps_), weight);
}

ChannelNorm::ChannelNorm(const Scope& scope, int64_t channels)
    : gamma_(scope.weight("gamma", WeightKind::vector, {channels})) {}

ggml_tensor* ChannelNorm::operator()(Graph& g, ggml_tensor* x) const { return apply(g, x, false); }

ggml_tensor* ChannelNorm::silu(Graph& g, ggml_tensor* x) const { return apply(g, x, true); }

ggml_tensor* ChannelNorm::apply(Graph& g, ggml_tensor* x, bool silu) const {
    require_input(gamma_, gamma_->tensor->ne[0], x->ne[2]);
    if (ggml_tensor* y = cpu::channel_norm(g, x, gamma_->tensor, silu)) return y;
    ggml_context* c = g.context;
    ggml_tensor* y = ggml_mul(c, ggml_rms_norm(c, to_tokens(g, x), smallest_square), gamma_->tensor);
    y = from_tokens(g, y, x->ne[0], x->ne[1]);
    return silu ? ggml_silu(c, y) : y;
}

ggml_tensor* to_tokens(Graph& g, ggml_tensor* x) {
    ggml_tensor* last = ggml_cont(g.context, ggml_permute(g.context, x, 1, 2, 0, 3));
    return ggml_reshape_3d(g.context, last, x->ne[2], x->ne[0] * x->ne[1], x->ne[3]);
}

ggml_tensor* from_tokens(Graph& g, ggml_tensor* tokens, int64_t width, int64_t height) {
    ggml_tensor* first = ggml_cont(g.context, ggml_permute(g.context, tokens, 1, 0, 2, 3));  // [N, C, T]
    return ggml_reshape_4d(g.context, first, width, height, tokens->ne[0], tokens->ne[2]);
}

ggml_tensor* apply_rope(Graph& g, ggml_tensor* x, ggml_tensor* rope, int64_t heads) {
    if (rope->ne[0] != 2 * (x->ne[0] / heads))
        fail(SDCPP_UNSUPPORTED_MODEL, "heads of ", x->ne[0] / heads, " values get rotary positions for ",
             rope->ne[0] / 2);
    if (ggml_tensor* y = cpu::apply_rope(g, x, rope, heads)) return y;
    ggml_context* c = g.context;
    const int64_t size = x->ne[0] / heads, tokens = x->ne[1], batch = x->ne[2];
    ggml_tensor* pairs = ggml_reshape_2d(c, x, 2, ggml_nelements(x) / 2);
    ggml_tensor* swapped = ggml_roll(c, pairs, 1, 0, 0, 0);
    if (!can(g, swapped)) {
        const auto member = [&](size_t number) {
            return ggml_view_2d(c, pairs, 1, pairs->ne[1], pairs->nb[1], number * pairs->nb[0]);
        };
        swapped = ggml_concat(c, ggml_cont(c, member(1)), ggml_cont(c, member(0)), 0);
    }
    const auto by_heads = [&](ggml_tensor* t) { return ggml_reshape_4d(c, t, size, heads, tokens, batch); };
    const auto factors = [&](size_t number) {  // for every head the same
        return ggml_view_4d(c, rope, size, 1, tokens, batch, rope->nb[1], rope->nb[1], rope->nb[2],
                            number * static_cast<size_t>(size) * rope->nb[0]);
    };
    ggml_tensor* turned = ggml_add(c, ggml_mul(c, by_heads(x), factors(0)), ggml_mul(c, by_heads(swapped), factors(1)));
    return ggml_reshape_3d(c, turned, x->ne[0], tokens, batch);
}

ggml_tensor* geglu(Graph& g, ggml_tensor* x) {
    if (ggml_tensor* y = cpu::geglu(g, x)) return y;
    return ggml_geglu_erf_swapped(g.context, x);
}

// Without the device's own operation it is x times a sigmoid.
ggml_tensor* gelu_tanh(Graph& g, ggml_tensor* x) {
    ggml_context* c = g.context;
    if (g.kernels.f32_gelu) return ggml_gelu(c, x);
    const float twice = 2 * std::sqrt(2 / std::numbers::pi_v<float>);
    ggml_tensor* slope = ggml_scale_bias(c, ggml_sqr(c, x), twice * 0.044715f, twice);
    return ggml_mul(c, x, ggml_sigmoid(c, ggml_mul(c, x, slope)));
}

ggml_tensor* upsample(Graph& g, ggml_tensor* x) { return ggml_upscale(g.context, x, 2, GGML_SCALE_MODE_NEAREST); }

}  // namespace sdcpp
