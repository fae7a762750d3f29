#include "models/sd3.h"

#include <cmath>
#include <memory>
#include <optional>

#include "base/error.h"
#include "models/patches.h"
#include "models/transformer_parts.h"
#include "nn/layers.h"

namespace sdcpp {
namespace {

constexpr float eps = 1e-6f;

// x normed over its channels, times one plus a scale, plus a shift.
ggml_tensor* modulated(Graph& g, ggml_tensor* x, ggml_tensor* shift, ggml_tensor* scale) {
    ggml_context* c = g.context;
    return ggml_add(c, ggml_mul(c, ggml_norm(c, x, eps), one_plus(g, scale)), shift);
}

// A stream's part of attention; 3.5 norms queries and keys by head.
struct Projections {
    Linear to_q, to_k, to_v;
    std::optional<RmsNorm> ln_q, ln_k;
    int64_t head;

    Projections(const Scope& s, int64_t width, int64_t size)
        : to_q(s / "to_q", width, width), to_k(s / "to_k", width, width), to_v(s / "to_v", width, width), head(size) {
        if (!s.has("ln_q")) return;
        ln_q.emplace(s / "ln_q", size, eps);
        ln_k.emplace(s / "ln_k", size, eps);
    }

    ggml_tensor* normed(Graph& g, ggml_tensor* x, const std::optional<RmsNorm>& norm) const {
        if (!norm) return x;
        ggml_tensor* split = ggml_reshape_4d(g.context, x, head, x->ne[0] / head, x->ne[1], x->ne[2]);
        return ggml_reshape_3d(g.context, (*norm)(g, split), x->ne[0], x->ne[1], x->ne[2]);
    }
    ggml_tensor* q(Graph& g, ggml_tensor* x) const { return normed(g, to_q(g, x), ln_q); }
    ggml_tensor* k(Graph& g, ggml_tensor* x) const { return normed(g, to_k(g, x), ln_k); }
    ggml_tensor* v(Graph& g, ggml_tensor* x) const { return to_v(g, x); }
};

// A block's attention of both streams, and in some blocks one of the picture alone. The picture's modulation is shift,
// scale and gate of the attention and of the feed-forward layers, then of that second attention. The last block's text
// only gives keys and values, so it has a shift and a scale.
struct AttentionHalf {
    Linear x_mod;
    std::optional<Linear> context_mod, last_shift, last_scale;
    Projections x_attn, context_attn;
    std::optional<Projections> attn2;
    Linear x_proj;
    std::optional<Linear> context_proj, proj2;
    int64_t heads, parts;

    AttentionHalf(const Scope& s, int64_t width, int64_t head)
        : x_mod(s / "x_block.adaLN_modulation.1", width, s.side("x_block.adaLN_modulation.1.weight", 0)),
          x_attn(s / "x_block.attn", width, head),
          context_attn(s / "context_block.attn", width, head),
          x_proj(s / "x_block.attn.proj", width, width),
          heads(width / head),
          parts(x_mod.out() / width) {
        const Scope text = s / "context_block";
        if (text.has("attn.proj")) {
            context_mod.emplace(text / "adaLN_modulation.1", width, 6 * width);
            context_proj.emplace(text / "attn.proj", width, width);
        } else {
            last_shift.emplace(text / "shift", width, width);
            last_scale.emplace(text / "scale", width, width);
        }
        if (s.has("x_block.attn2")) {
            attn2.emplace(s / "x_block.attn2", width, head);
            proj2.emplace(s / "x_block.attn2.proj", width, width);
        }
        if (x_mod.out() != (attn2 ? 9 : 6) * width)
            fail(SDCPP_UNSUPPORTED_MODEL, s.name(), ": a modulation of ", x_mod.out(), " values for a width of ",
                 width);
    }

    void operator()(Graph& g, Values& v) const {
        ggml_context* c = g.context;
        ggml_tensor *x = v.at("x"), *context = v.at("context"), *vec = v.at("vec");
        ggml_tensor* mod = x_mod(g, vec);
        v["x_mod"] = mod;
        ggml_tensor* xn = modulated(g, x, chunk(g, mod, 0, parts), chunk(g, mod, 1, parts));
        ggml_tensor* cn;
        if (context_mod) {
            ggml_tensor* own = (*context_mod)(g, vec);
            v["context_mod"] = own;
            cn = modulated(g, context, chunk(g, own, 0, 6), chunk(g, own, 1, 6));
        } else {
            cn = modulated(g, context, chunk(g, (*last_shift)(g, vec), 0, 1), chunk(g, (*last_scale)(g, vec), 0, 1));
        }
        ggml_tensor* q = ggml_concat(c, context_attn.q(g, cn), x_attn.q(g, xn), 1);
        ggml_tensor* k = ggml_concat(c, context_attn.k(g, cn), x_attn.k(g, xn), 1);
        ggml_tensor* values = ggml_concat(c, context_attn.v(g, cn), x_attn.v(g, xn), 1);
        ggml_tensor* attended = attention(g, q, k, values, heads);
        ggml_tensor* to_picture = x_proj(g, tokens_of(g, attended, context->ne[1], x->ne[1]));
        v["x"] = ggml_add(c, x, ggml_mul(c, to_picture, chunk(g, mod, 2, parts)));
        if (context_proj) {
            ggml_tensor* to_text = (*context_proj)(g, tokens_of(g, attended, 0, context->ne[1]));
            v["context"] = ggml_add(c, context, ggml_mul(c, to_text, chunk(g, v.at("context_mod"), 2, 6)));
        }
        if (attn2) {
            ggml_tensor* n = modulated(g, x, chunk(g, mod, 6, parts), chunk(g, mod, 7, parts));
            ggml_tensor* alone = attention(g, attn2->q(g, n), attn2->k(g, n), attn2->v(g, n), heads);
            v["x"] = ggml_add(c, v.at("x"), ggml_mul(c, (*proj2)(g, alone), chunk(g, mod, 8, parts)));
        }
    }
};

struct FeedForwardHalf {
    struct Stream {
        Linear fc1, fc2;

        Stream(const Scope& s, int64_t width)
            : fc1(s / "fc1", width, s.side("fc1.weight", 0)), fc2(s / "fc2", fc1.out(), width) {}

        ggml_tensor* operator()(Graph& g, ggml_tensor* x, ggml_tensor* mod, int64_t parts) const {
            ggml_context* c = g.context;
            ggml_tensor* n = modulated(g, x, chunk(g, mod, 3, parts), chunk(g, mod, 4, parts));
            return ggml_add(c, x, ggml_mul(c, fc2(g, gelu_tanh(g, fc1(g, n))), chunk(g, mod, 5, parts)));
        }
    };
    Stream picture;
    std::optional<Stream> text;
    int64_t width;

    FeedForwardHalf(const Scope& s, int64_t of) : picture(s / "x_block.mlp", of), width(of) {
        if (s.has("context_block.mlp")) text.emplace(s / "context_block.mlp", of);
    }

    void operator()(Graph& g, Values& v) const {
        v["x"] = picture(g, v.at("x"), v.at("x_mod"), v.at("x_mod")->ne[0] / width);
        if (text) v["context"] = (*text)(g, v.at("context"), v.at("context_mod"), 6);
        v.erase("x_mod");
        v.erase("context_mod");
    }
};

// Two layers with an activation between, "mlp.0" and "mlp.2".
struct Embedding {
    Linear first, second;

    Embedding(const Scope& s, int64_t in, int64_t width)
        : first(s / "mlp.0", in, width, WeightKind::edge), second(s / "mlp.2", width, width, WeightKind::edge) {}

    ggml_tensor* operator()(Graph& g, ggml_tensor* x) const { return second(g, ggml_silu(g.context, first(g, x))); }
};

}  // namespace

Sd3::Sd3(const ModelFiles& files) : Denoiser(files, "sd3") {
    const Scope s = root();
    width_ = s.side("x_embedder.proj.weight", 0);
    channels_ = s.side("x_embedder.proj.weight", 1);
    context_width_ = s.side("context_embedder.weight", 1);
    pooled_width_ = s.side("y_embedder.mlp.0.weight", 1);
    sinusoids_ = s.side("t_embedder.mlp.0.weight", 1);
    const bool normed = s.has("joint_blocks.0.x_block.attn.ln_q");
    head_ = normed ? s.side("joint_blocks.0.x_block.attn.ln_q.weight", 0)
                   : per_level(files.config()["transformer"].integers("attention_head_dim"), 0, 64);
    const size_t of_places =
        files.find(s.name() + ".pos_embed") ? files.find(s.name() + ".pos_embed")->shape.size() : 0;
    const int64_t count = s.side("pos_embed", of_places == 3 ? 1 : 0);
    side_ = std::llround(std::sqrt(static_cast<double>(count)));
    if (head_ < 1 || width_ % head_ != 0 || side_ * side_ != count)
        fail(SDCPP_UNSUPPORTED_MODEL, "a Stable Diffusion 3 transformer with a width of ", width_, " in heads of ",
             head_, " and ", count, " places");
    places_ = s.weight("pos_embed", WeightKind::edge, {count, width_});

    stage("embedders", [&] {
        return [time = Embedding(s / "t_embedder", sinusoids_, width_),
                text = Embedding(s / "y_embedder", pooled_width_, width_)](Graph& g, Values& v) {
            v["vec"] = ggml_silu(g.context, ggml_add(g.context, time(g, v.at("time")), text(g, v.at("pooled"))));
        };
    });
    stage("x_embedder", [&] {
        return [proj = Conv2d(s / "x_embedder.proj", channels_, width_, patch, patch, 0)](Graph& g, Values& v) {
            v["x"] = ggml_add(g.context, to_tokens(g, proj(g, v.at("x"))), v.at("places"));
        };
    });
    stage("context_embedder", [&] {
        return [in = Linear(s / "context_embedder", context_width_, width_, WeightKind::edge)](Graph& g, Values& v) {
            v["context"] = in(g, v.at("context"));
        };
    });
    for (int i = 0; i < s.count("joint_blocks"); ++i) {
        const Scope own = s / "joint_blocks" / i;
        block(
            "joint_blocks." + std::to_string(i), [&] { return AttentionHalf(own, width_, head_); },
            [&] { return FeedForwardHalf(own, width_); });
    }
    stage("final_layer", [&] {
        const Scope f = s / "final_layer";
        return [shift = Linear(f / "shift", width_, width_, WeightKind::edge),
                scale = Linear(f / "scale", width_, width_, WeightKind::edge),
                linear = Linear(f / "linear", width_, channels_ * patch * patch, WeightKind::edge)](Graph& g,
                                                                                                    Values& v) {
            ggml_tensor* vec = v.at("vec");
            v["x"] = linear(g, modulated(g, v.at("x"), chunk(g, shift(g, vec), 0, 1), chunk(g, scale(g, vec), 0, 1)));
        };
    });
}

std::vector<Array> Sd3::inputs(const Noisy& noisy) const {
    const int64_t rows = noisy.shape.height / patch, columns = noisy.shape.width / patch;
    if (rows > side_ || columns > side_)
        fail(SDCPP_INVALID_ARGUMENT, "the model has places for ", side_, " x ", side_,
             " patches of 16 pixels; the picture has ", columns, " x ", rows, "; make it smaller");
    if (rows != rows_ || columns != columns_) {
        std::vector<float> taken(static_cast<size_t>(rows * columns * width_));
        const int64_t top = (side_ - rows) / 2, left = (side_ - columns) / 2;
        for (int64_t row = 0; row < rows; ++row)
            places_->source->rows(((top + row) * side_ + left) * width_, columns * width_,
                                  taken.data() + row * columns * width_);
        taken_ = Array::of("places", {rows * columns, width_}, std::move(taken), true);
        rows_ = rows;
        columns_ = columns;
    }
    return {{"x", GGML_TYPE_F32, {noisy.rows(), channels_, noisy.shape.height, noisy.shape.width}, noisy.x.data()},
            Array::of("time", {noisy.rows(), sinusoids_}, sinusoids(noisy.timesteps, sinusoids_)),
            joined(noisy.conditionings, "context"),
            joined(noisy.conditionings, "pooled"),
            taken_};
}

std::vector<float> Sd3::prediction(const Array& result, const Noisy& noisy) const {
    return from_patches(result, noisy.shape, patch, PatchOrder::place_first);
}

}  // namespace sdcpp
