#include "nn/layers.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "nn/cpu_operations.h"

namespace sdcpp {
namespace {

const Weight* bias_of(const Scope& scope, int64_t channels) {
    return scope.has("bias") ? scope.weight("bias", WeightKind::vector, {channels}) : nullptr;
}

ggml_tensor* tensor_of(const Weight* weight) { return weight ? weight->tensor : nullptr; }

// A vector over the channels of [N, C, H, W].
ggml_tensor* per_channel(Graph& g, const Weight* weight) {
    return ggml_reshape_4d(g.context, weight->tensor, 1, 1, weight->tensor->ne[0], 1);
}

bool can(const Graph& g, const ggml_tensor* op) { return !g.kernels.supports || g.kernels.supports(op); }

constexpr double flops_per_operation = 1e10;
constexpr int64_t most_pieces = 64;  // of one attention: a graph has room for so many operations only
constexpr int64_t most_tiles = 1024;

// Rows [first, first + count) of q [N, heads, T, d] or of a mask [.., T, Tk] that may be null, without a copy.
ggml_tensor* rows_of(Graph& g, ggml_tensor* q, int64_t first, int64_t count) {
    if (!q || count == q->ne[1]) return q;
    return ggml_view_4d(g.context, q, q->ne[0], count, q->ne[2], q->ne[3], q->nb[1], q->nb[2], q->nb[3],
                        static_cast<size_t>(first) * q->nb[1]);
}

// The scores of one tile of queries against all keys, applied to the values. q [N, heads, T, d], k likewise, v
// transposed.
ggml_tensor* attention_tile(Graph& g, ggml_tensor* q, ggml_tensor* k, ggml_tensor* v_transposed, ggml_tensor* mask,
                            float scale) {
    ggml_tensor* scores = ggml_mul_mat(g.context, k, q);
    ggml_mul_mat_set_prec(scores, GGML_PREC_F32);
    return ggml_mul_mat(g.context, v_transposed, ggml_soft_max_ext(g.context, scores, mask, scale, 0.0f));
}

ggml_tensor* tiled_attention(Graph& g, ggml_tensor* q, ggml_tensor* k, ggml_tensor* v, ggml_tensor* mask, float scale) {
    ggml_context* c = g.context;
    ggml_tensor* v_transposed = ggml_cont(c, ggml_permute(c, v, 1, 0, 2, 3));
    const int64_t queries = q->ne[1];
    const auto row_bytes = static_cast<size_t>(k->ne[1] * q->ne[2] * q->ne[3]) * sizeof(float);
    const int64_t tile = std::clamp<int64_t>(static_cast<int64_t>(g.kernels.score_tile_bytes / row_bytes), 1, queries);
    if (queries / tile > most_tiles)
        fail(SDCPP_OUT_OF_MEMORY, "attention over ", k->ne[1],
             " tokens is too large for this device, which has no flash attention; use a smaller picture");
    ggml_tensor* out = nullptr;
    for (int64_t first = 0; first < queries; first += tile) {
        const int64_t count = std::min(tile, queries - first);
        ggml_tensor* part = rows_of(g, q, first, count);
        ggml_tensor* rows = rows_of(g, mask, first, count);
        ggml_tensor* done = attention_tile(g, part, k, v_transposed, rows, scale);
        out = out ? ggml_concat(c, out, done, 1) : done;
    }
    return ggml_cont(c, ggml_permute(c, out, 0, 2, 1, 3));  // to [N, T, heads, d]
}

}  // namespace

Linear::Linear(const Scope& scope, int64_t in, int64_t out, WeightKind kind)
    : weight_(scope.weight("weight", kind, {out, in})), bias_(bias_of(scope, out)) {}

ggml_tensor* Linear::operator()(Graph& g, ggml_tensor* x) const {
    if (ggml_tensor* y = cpu::linear(g, x, weight_->tensor, tensor_of(bias_))) return y;
    ggml_tensor* y = ggml_mul_mat(g.context, weight_->tensor, x);
    return bias_ ? ggml_add(g.context, y, bias_->tensor) : y;
}

Conv2d::Conv2d(const Scope& scope, int64_t in, int64_t out, int kernel, int stride, int padding)
    : weight_(scope.weight("weight", WeightKind::convolution, {out, in, kernel, kernel})),
      bias_(bias_of(scope, out)),
      stride_(stride),
      padding_(padding < 0 ? kernel / 2 : padding) {}

ggml_tensor* Conv2d::operator()(Graph& g, ggml_tensor* x) const {
    if (ggml_tensor* y = cpu::convolution(g, x, weight_->tensor, tensor_of(bias_), stride_, padding_)) return y;
    ggml_tensor *w = weight_->tensor, *y = nullptr;
    // Kernels round x to the weights' type.
    if (g.wide_range && w->type != GGML_TYPE_F32) w = ggml_cast(g.context, w, GGML_TYPE_F32);
    if (g.kernels.direct_convolution)
        y = ggml_conv_2d_direct(g.context, w, x, stride_, stride_, padding_, padding_, 1, 1);
    if (!y || !can(g, y)) y = unrolled(g, w, x);
    return bias_ ? ggml_add(g.context, y, per_channel(g, bias_)) : y;
}

// As one product with unrolled patches, which stay f32 (ggml's own way takes the weights' type).
ggml_tensor* Conv2d::unrolled(Graph& g, ggml_tensor* w, ggml_tensor* x) const {
    ggml_context* c = g.context;
    ggml_tensor* patches =
        ggml_im2col(c, w, x, stride_, stride_, padding_, padding_, 1, 1, true, GGML_TYPE_F32);  // [N, H', W', in*h*w]
    ggml_tensor* flat = ggml_reshape_2d(c, w, w->ne[0] * w->ne[1] * w->ne[2], w->ne[3]);
    ggml_tensor* y = ggml_mul_mat(c, flat, patches);
    ggml_mul_mat_set_prec(y, GGML_PREC_F32);
    return ggml_cont(c, ggml_permute(c, y, 2, 0, 1, 3));
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
    ggml_tensor* y = ggml_norm(g.context, x, eps_);
    return ggml_add(g.context, ggml_mul(g.context, y, weight_->tensor), bias_->tensor);
}

RmsNorm::RmsNorm(const Scope& scope, int64_t channels, float eps)
    : weight_(scope.weight("weight", WeightKind::vector, {channels})), eps_(eps) {}

ggml_tensor* RmsNorm::operator()(Graph& g, ggml_tensor* x) const {
    return ggml_mul(g.context, ggml_rms_norm(g.context, x, eps_), weight_->tensor);
}

ggml_tensor* attention(Graph& g, ggml_tensor* q, ggml_tensor* k, ggml_tensor* v, int64_t heads, ggml_tensor* mask) {
    ggml_context* c = g.context;
    const int64_t channels = q->ne[0], size = channels / heads, queries = q->ne[1], batch = q->ne[2];
    const float scale = 1.0f / std::sqrt(static_cast<float>(size));
    if (ggml_tensor* out = cpu::attention(g, q, k, v, heads, scale, mask)) return out;
    const auto split = [&](ggml_tensor* x) {  // [N, T, C] to [N, heads, T, d]
        return ggml_permute(c, ggml_reshape_4d(c, x, size, x->ne[0] / size, x->ne[1], batch), 0, 2, 1, 3);
    };
    q = split(q);
    k = split(k);
    v = split(v);
    // Cancelling is looked at between operations, so a large product goes in several; rows do not depend on each other.
    const double flops = 4.0 * static_cast<double>(queries * k->ne[1]) * static_cast<double>(channels * batch);
    const int64_t pieces =
        std::clamp<int64_t>(static_cast<int64_t>(flops / flops_per_operation) + 1, 1, std::min(queries, most_pieces));
    ggml_tensor* out = nullptr;
    for (int64_t piece = 0; piece < pieces; ++piece) {
        const int64_t first = queries * piece / pieces, count = queries * (piece + 1) / pieces - first;
        ggml_tensor* done = ggml_flash_attn_ext(c, rows_of(g, q, first, count), k, v, rows_of(g, mask, first, count),
                                                scale, 0.0f, 0.0f);
        ggml_flash_attn_ext_set_prec(done, GGML_PREC_F32);
        if (piece == 0 && !can(g, done)) {
            out = tiled_attention(g, ggml_cont(c, q), ggml_cont(c, k), v, mask, scale);
            break;
        }
        out = out ? ggml_concat(c, out, done, 2) : done;
    }
    return ggml_reshape_3d(c, out, channels, queries, batch);
}

ggml_tensor* to_tokens(Graph& g, ggml_tensor* x) {
    ggml_tensor* last = ggml_cont(g.context, ggml_permute(g.context, x, 1, 2, 0, 3));
    return ggml_reshape_3d(g.context, last, x->ne[2], x->ne[0] * x->ne[1], x->ne[3]);
}

ggml_tensor* from_tokens(Graph& g, ggml_tensor* tokens, int64_t width, int64_t height) {
    ggml_tensor* first = ggml_cont(g.context, ggml_permute(g.context, tokens, 1, 0, 2, 3));  // [N, C, T]
    return ggml_reshape_4d(g.context, first, width, height, tokens->ne[0], tokens->ne[2]);
}

ggml_tensor* rotate_pairs(Graph& g, ggml_tensor* x, ggml_tensor* turns, int64_t heads) {
    if (ggml_tensor* y = cpu::rotate_pairs(g, x, turns, heads)) return y;
    ggml_context* c = g.context;
    const int64_t pairs = x->ne[0] / heads / 2, tokens = x->ne[1] * x->ne[2];
    const auto member = [&](ggml_tensor* t, size_t number, int64_t groups) {  // of each pair, [tokens, groups, pairs]
        const size_t pair = 2 * t->nb[0], group = pair * static_cast<size_t>(pairs);
        ggml_tensor* view = ggml_view_4d(c, t, 1, pairs, groups, tokens, pair, group,
                                         group * static_cast<size_t>(groups), number * t->nb[0]);
        return ggml_reshape_3d(c, ggml_cont(c, view), pairs, groups, tokens);
    };
    ggml_tensor *re = member(x, 0, heads), *im = member(x, 1, heads);
    ggml_tensor *cosine = member(turns, 0, 1), *sine = member(turns, 1, 1);
    ggml_tensor* turned_re = ggml_sub(c, ggml_mul(c, re, cosine), ggml_mul(c, im, sine));
    ggml_tensor* turned_im = ggml_add(c, ggml_mul(c, re, sine), ggml_mul(c, im, cosine));
    const auto column = [&](ggml_tensor* t) { return ggml_reshape_4d(c, t, 1, pairs, heads, tokens); };
    ggml_tensor* joined = ggml_concat(c, column(turned_re), column(turned_im), 0);
    return ggml_reshape_3d(c, joined, x->ne[0], x->ne[1], x->ne[2]);
}

ggml_tensor* geglu(Graph& g, ggml_tensor* x) {
    if (ggml_tensor* y = cpu::geglu(g, x)) return y;
    return ggml_geglu_erf_swapped(g.context, x);
}

ggml_tensor* upsample(Graph& g, ggml_tensor* x) { return ggml_upscale(g.context, x, 2, GGML_SCALE_MODE_NEAREST); }

}  // namespace sdcpp
