// Attention on devices: the device's flash kernel if it has one for the head size, else tiles of scores.
#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "nn/cpu_operations.h"
#include "nn/layer_parts.h"
#include "nn/layers.h"

namespace sdcpp {
namespace {

constexpr int64_t max_pieces = 64;  // An attention has no more: a graph has room for so many operations only.
constexpr int64_t max_tiles = 1024;

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
    sum_in_f32(scores);
    return ggml_mul_mat(g.context, v_transposed, ggml_soft_max_ext(g.context, scores, mask, scale, 0.0f));
}

ggml_tensor* tiled_attention(Graph& g, ggml_tensor* q, ggml_tensor* k, ggml_tensor* v, ggml_tensor* mask, float scale) {
    ggml_context* c = g.context;
    ggml_tensor* v_transposed = ggml_cont(c, ggml_permute(c, v, 1, 0, 2, 3));
    const int64_t queries = q->ne[1];
    const auto row_bytes = static_cast<size_t>(k->ne[1] * q->ne[2] * q->ne[3]) * sizeof(float);
    const int64_t tile = std::clamp<int64_t>(static_cast<int64_t>(g.kernels.score_tile_bytes / row_bytes), 1, queries);
    if (queries / tile > max_tiles)
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

// The size that a head of `size` is padded to with zeros, which change no score and no sum.
int64_t padded_head(const Graph& g, int64_t size) {
    for (const int64_t fast : g.kernels.fast_head_sizes)
        if (fast >= size) return fast;
    return size;
}

}  // namespace

ggml_tensor* attention(Graph& g, ggml_tensor* q, ggml_tensor* k, ggml_tensor* v, int64_t heads, ggml_tensor* mask) {
    ggml_context* c = g.context;
    const int64_t channels = q->ne[0], size = channels / heads, queries = q->ne[1], batch = q->ne[2];
    const float scale = 1.0f / std::sqrt(static_cast<float>(size));
    if (ggml_tensor* out = cpu::attention(g, q, k, v, heads, scale, mask)) return out;
    const auto split = [&](ggml_tensor* x) {  // [N, T, C] to [N, T, heads, d]
        return ggml_reshape_4d(c, x, size, x->ne[0] / size, x->ne[1], batch);
    };
    const auto by_heads = [&](ggml_tensor* x) { return ggml_permute(c, x, 0, 2, 1, 3); };
    const int64_t padded = padded_head(g, size);
    const auto prepared = [&](ggml_tensor* x, bool rounded) {  // to [N, heads, T, padded]
        x = split(x);
        if (padded > size) x = ggml_pad(c, x, static_cast<int>(padded - size), 0, 0, 0);
        // Flash kernels multiply in f16: rounded here, once, it is not rounded again for every piece of the queries.
        return by_heads(rounded ? ggml_cast(c, x, GGML_TYPE_F16) : x);
    };
    const auto in_tiles = [&] {
        ggml_tensor* tiled = tiled_attention(g, ggml_cont(c, by_heads(split(q))), ggml_cont(c, by_heads(split(k))),
                                             by_heads(split(v)), mask, scale);
        return ggml_reshape_3d(c, tiled, channels, queries, batch);
    };
    const bool rounded = g.kernels.f16_attention;
    if (rounded && g.wide_attention) return in_tiles();
    ggml_tensor *flash_q = prepared(q, false), *flash_k = prepared(k, rounded), *flash_v = prepared(v, rounded);
    // A CPU looks at cancelling between operations, so a large product goes in several; rows do not depend on each
    // other.
    const double flops = 4.0 * static_cast<double>(queries * k->ne[1]) * static_cast<double>(channels * batch);
    const int64_t pieces = std::clamp<int64_t>(static_cast<int64_t>(flops / g.kernels.max_attention_flops) + 1, 1,
                                               std::min(queries, max_pieces));
    ggml_tensor* out = nullptr;
    for (int64_t piece = 0; piece < pieces; ++piece) {
        const int64_t first = queries * piece / pieces, count = queries * (piece + 1) / pieces - first;
        ggml_tensor* done = ggml_flash_attn_ext(c, rows_of(g, flash_q, first, count), flash_k, flash_v,
                                                rows_of(g, mask, first, count), scale, 0.0f, 0.0f);
        sum_in_f32(done);
        if (piece == 0 && !can(g, done)) return in_tiles();
        out = out ? ggml_concat(c, out, done, 2) : done;
    }
    if (padded > size)
        out = ggml_cont(
            c, ggml_view_4d(c, out, size, out->ne[1], out->ne[2], out->ne[3], out->nb[1], out->nb[2], out->nb[3], 0));
    return ggml_reshape_3d(c, out, channels, queries, batch);
}

}  // namespace sdcpp
