// What the transformers of the FLUX family share.
#pragma once

#include <optional>
#include <string>

#include "models/denoiser.h"
#include "nn/layers.h"

namespace sdcpp {

constexpr float flux_eps = 1e-6f;  // the norms add it to variances

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

// The vectors that shift, scale and gate a block: made of "vec", or read from "slots" [N, slots, C], in which another
// network has made them for all blocks.
class Modulation {
  public:
    // So many `parts`; `slot`: the first of those that are read, if there is no layer.
    Modulation(const Scope& s, int64_t width, int64_t parts, std::optional<int64_t> slot);
    ggml_tensor* operator()(Graph& g, const Values& v) const;  // [N, parts * C]

  private:
    std::optional<Linear> lin_;
    int64_t width_, parts_;
    std::optional<int64_t> slot_;
};

// The halves of a block of two streams, a text's and a picture's, which attend together. Each stream has its
// own modulation. It is six vectors: shift, scale and gate of the attention and of the feed-forward layers.
struct JointAttention {
    struct Stream {
        Modulation mod;
        FluxProjections projections;
        Linear proj;

        Stream(const Scope& s, const std::string& stream, int64_t width, int64_t head, std::optional<int64_t> slot)
            : mod(s / (stream + "_mod.lin"), width, 6, slot),
              projections(s / (stream + "_attn"), s / (stream + "_attn.norm"), width, head),
              proj(s / (stream + "_attn.proj"), width, width) {}
    };
    Stream img, txt;
    int64_t heads;

    // `img_slot`, `txt_slot`: see Modulation.
    JointAttention(const Scope& s, int64_t width, int64_t head, std::optional<int64_t> img_slot = {},
                   std::optional<int64_t> txt_slot = {})
        : img(s, "img", width, head, img_slot), txt(s, "txt", width, head, txt_slot), heads(width / head) {}

    // On "x", "context", "vec" or "slots", "rope" and, if there is one, "mask".
    void operator()(Graph& g, Values& v) const;
};

struct JointFeedForward {
    struct Stream {
        Linear in, out;

        Stream(const Scope& s, int64_t width) : in(s / 0, width, s.side("0.weight", 0)), out(s / 2, in.out(), width) {}
        ggml_tensor* operator()(Graph& g, ggml_tensor* x, ggml_tensor* mod) const;
    };
    Stream img, txt;

    JointFeedForward(const Scope& s, int64_t width) : img(s / "img_mlp", width), txt(s / "txt_mlp", width) {}

    void operator()(Graph& g, Values& v) const;
};

}  // namespace sdcpp
