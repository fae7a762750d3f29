// What the transformers of the FLUX family share.
#pragma once

#include "models/denoiser.h"
#include "nn/layers.h"

namespace sdcpp {

constexpr float flux_eps = 1e-6f;  // of its norms

// Sinusoids, or a pooled text, to the width of the blocks.
struct FluxEmbedding {
    Linear in_layer, out_layer;

    FluxEmbedding(const Scope& s, int64_t in, int64_t width)
        : in_layer(s / "in_layer", in, width, WeightKind::edge),
          out_layer(s / "out_layer", width, width, WeightKind::edge) {}

    ggml_tensor* operator()(Graph& g, ggml_tensor* x) const {
        return out_layer(g, ggml_silu(g.context, in_layer(g, x)));
    }
};

// The scale of guidance, which these networks take a thousandfold: "guidance" [rows, width].
Array guidance_sinusoids(const Noisy& noisy, int64_t width);

// x normed over its channels, times one plus a scale, plus a shift.
ggml_tensor* modulated_norm(Graph& g, ggml_tensor* x, ggml_tensor* shift, ggml_tensor* scale);

// A stream's part of attention: queries and keys normed by head.
struct FluxProjections {
    Linear to_q, to_k, to_v;
    RmsNorm query_norm, key_norm;
    int64_t head;

    // `norms`: the scope of the two norms; `size`: of a head.
    FluxProjections(const Scope& s, const Scope& norms, int64_t width, int64_t size)
        : to_q(s / "to_q", width, width),
          to_k(s / "to_k", width, width),
          to_v(s / "to_v", width, width),
          query_norm(norms / "query_norm", size, flux_eps),
          key_norm(norms / "key_norm", size, flux_eps),
          head(size) {}

    ggml_tensor* q(Graph& g, ggml_tensor* x) const { return normed(g, to_q(g, x), query_norm); }
    ggml_tensor* k(Graph& g, ggml_tensor* x) const { return normed(g, to_k(g, x), key_norm); }
    ggml_tensor* v(Graph& g, ggml_tensor* x) const { return to_v(g, x); }

  private:
    ggml_tensor* normed(Graph& g, ggml_tensor* x, const RmsNorm& norm) const;
};

// Attention of a text and a picture together, with rotary positions: `text` and `picture` are normed; gives a part for
// each.
struct JointlyAttended {
    ggml_tensor *text, *picture;
};
JointlyAttended attend_jointly(Graph& g, const FluxProjections& of_text, ggml_tensor* text,
                               const FluxProjections& of_picture, ggml_tensor* picture, ggml_tensor* rope,
                               int64_t heads, ggml_tensor* mask = nullptr);

}  // namespace sdcpp
