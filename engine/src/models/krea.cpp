#include "models/krea.h"

#include <algorithm>
#include <array>
#include <memory>

#include "base/error.h"
#include "models/masks.h"
#include "models/patches.h"
#include "models/rope.h"
#include "models/transformer_parts.h"
#include "nn/layers.h"

namespace sdcpp {
namespace {

constexpr float less_one = 1;  // norms are stored so

// Grouped queries, normed by head; the result goes through a gate of its own.
struct Attention {
    Linear wq, wk, wv, wo, gate;
    RmsNorm qnorm, knorm;
    int64_t head, heads;

    Attention(const Scope& s, int64_t width, int64_t size, float eps)
        : wq(s / "wq", width, width),
          wk(s / "wk", width, s.side("wk.weight", 0)),
          wv(s / "wv", width, wk.out()),
          wo(s / "wo", width, width),
          gate(s / "gate", width, width),
          qnorm(s / "qknorm.qnorm", size, eps, less_one),
          knorm(s / "qknorm.knorm", size, eps, less_one),
          head(size),
          heads(width / head) {
        if (width % head != 0 || wk.out() % head != 0 || width % wk.out() != 0)
            fail(SDCPP_UNSUPPORTED_MODEL, s.name(), ": ", width, " values of queries and ", wk.out(),
                 " of keys in heads of ", head);
    }

    ggml_tensor* placed(Graph& g, ggml_tensor* x, const RmsNorm& norm, ggml_tensor* rope) const {
        const int64_t count = x->ne[0] / head;
        ggml_tensor* split = ggml_reshape_4d(g.context, x, head, count, x->ne[1], x->ne[2]);
        ggml_tensor* normed = ggml_reshape_3d(g.context, norm(g, split), x->ne[0], x->ne[1], x->ne[2]);
        return rope ? apply_rope(g, normed, rope, count) : normed;
    }

    // `rope` and `mask` may be null.
    ggml_tensor* operator()(Graph& g, ggml_tensor* x, ggml_tensor* rope, ggml_tensor* mask) const {
        ggml_tensor *q = placed(g, wq(g, x), qnorm, rope), *k = placed(g, wk(g, x), knorm, rope);
        ggml_tensor* attended = attention(g, q, k, wv(g, x), heads, mask);
        return wo(g, ggml_mul(g.context, attended, ggml_sigmoid(g.context, gate(g, x))));
    }
};

struct FeedForward {
    Linear gate, up, down;

    FeedForward(const Scope& s, int64_t width)
        : gate(s / "gate", width, s.side("gate.weight", 0)),
          up(s / "up", width, gate.out()),
          down(s / "down", gate.out(), width) {}

    ggml_tensor* operator()(Graph& g, ggml_tensor* x) const {
        return down(g, ggml_swiglu_split(g.context, gate(g, x), up(g, x)));
    }
};

// `parts` learned vectors, which are added to as many of the timestep's. Files have them in one row or in several.
const Weight* table(const Scope& s, std::string_view name, int64_t parts, int64_t width) {
    const TensorInfo* stored = s.files().find(s.name() + "." + std::string(name));
    const bool flat = stored && stored->shape.size() == 1;
    return s.weight(name, WeightKind::vector,
                    flat ? std::vector<int64_t>{parts * width} : std::vector<int64_t>{parts, width});
}

ggml_tensor* one_row(Graph& g, const Weight* weight) {
    return ggml_reshape_1d(g.context, weight->tensor, ggml_nelements(weight->tensor));
}

// x times one plus a scale, plus a shift.
ggml_tensor* modulated(Graph& g, ggml_tensor* x, ggml_tensor* scale, ggml_tensor* shift) {
    return ggml_add(g.context, ggml_mul(g.context, x, one_plus(g, scale)), shift);
}

// A block's halves. The timestep's six vectors are scale, shift and gate of the attention and of the feed-forward
// layers.
struct AttentionHalf {
    const Weight* lin;
    RmsNorm prenorm;
    Attention attn;

    AttentionHalf(const Scope& s, int64_t width, int64_t head, float eps)
        : lin(table(s, "mod.lin", 6, width)),
          prenorm(s / "prenorm", width, eps, less_one),
          attn(s / "attn", width, head, eps) {}

    void operator()(Graph& g, Values& v) const {
        ggml_context* c = g.context;
        ggml_tensor *x = v.at("x"), *own = ggml_add(c, v.at("modulation"), one_row(g, lin));
        v["own"] = own;
        ggml_tensor* n = modulated(g, prenorm(g, x), chunk(g, own, 0, 6), chunk(g, own, 1, 6));
        ggml_tensor* attended = attn(g, n, v.at("rope"), value_or_null(v, "mask"));
        v["x"] = ggml_add(c, x, ggml_mul(c, attended, chunk(g, own, 2, 6)));
    }
};

struct FeedForwardHalf {
    RmsNorm postnorm;
    FeedForward mlp;

    FeedForwardHalf(const Scope& s, int64_t width, float eps)
        : postnorm(s / "postnorm", width, eps, less_one), mlp(s / "mlp", width) {}

    void operator()(Graph& g, Values& v) const {
        ggml_context* c = g.context;
        ggml_tensor *x = v.at("x"), *own = v.at("own");
        ggml_tensor* n = modulated(g, postnorm(g, x), chunk(g, own, 3, 6), chunk(g, own, 4, 6));
        v["x"] = ggml_add(c, x, ggml_mul(c, mlp(g, n), chunk(g, own, 5, 6)));
        v.erase("own");
    }
};

// The halves of a block of the text's own, which knows no time.
struct TextAttention {
    RmsNorm prenorm;
    Attention attn;

    TextAttention(const Scope& s, int64_t width, float eps)
        : prenorm(s / "prenorm", width, eps, less_one),
          attn(s / "attn", width, s.side("attn.qknorm.qnorm.weight", 0), eps) {}

    ggml_tensor* operator()(Graph& g, ggml_tensor* x, ggml_tensor* mask) const {
        return ggml_add(g.context, x, attn(g, prenorm(g, x), nullptr, mask));
    }
};

struct TextFeedForward {
    RmsNorm postnorm;
    FeedForward mlp;

    TextFeedForward(const Scope& s, int64_t width, float eps)
        : postnorm(s / "postnorm", width, eps, less_one), mlp(s / "mlp", width) {}

    ggml_tensor* operator()(Graph& g, ggml_tensor* x) const { return ggml_add(g.context, x, mlp(g, postnorm(g, x))); }
};

}  // namespace

Krea::Krea(const ModelFiles& files) : Denoiser(files, "krea") {
    const Scope s = root();
    const Json& config = files.config()["transformer"];
    width_ = s.side("first.weight", 0);
    const int64_t patch_width = s.side("first.weight", 1);
    channels_ = patch_width / (patch * patch);
    sinusoids_ = s.side("tmlp.0.weight", 1);
    taps_ = s.side("txtfusion.projector.weight", 1);
    text_width_ = s.side("txtmlp.0.weight", 0);
    head_ = s.side("blocks.0.attn.qknorm.qnorm.weight", 0);
    eps_ = static_cast<float>(config.number_or("norm_eps", 1e-5));
    theta_ = config.number_or("rope_theta", 1000);
    axes_ = config.integers("axes_dims_rope");
    if (axes_.empty()) {
        const auto each = static_cast<int>(head_ * 3 / 8);  // 32, 48 and 48 of the released models' 128
        axes_ = {static_cast<int>(head_) - 2 * each, each, each};
    }
    if (!splits_head(axes_, head_) || width_ % head_ != 0 || patch_width % (patch * patch) != 0)
        fail(SDCPP_UNSUPPORTED_MODEL, "a Krea 2 transformer with a width of ", width_, " in heads of ", head_,
             ": \"axes_dims_rope\" in its config must be three even numbers that add up to a head");

    stage("tmlp", [&] {
        return [first = Linear(s / "tmlp.0", sinusoids_, width_, WeightKind::edge),
                second = Linear(s / "tmlp.2", width_, width_, WeightKind::edge)](Graph& g, Values& v) {
            v["time"] = second(g, gelu_tanh(g, first(g, v.at("time"))));
        };
    });
    stage("tproj", [&] {
        return [project = Linear(s / "tproj.1", width_, 6 * width_)](Graph& g, Values& v) {
            v["modulation"] = project(g, gelu_tanh(g, v.at("time")));
        };
    });
    text_stages(s);
    stage("first", [&] {
        return [in = Linear(s / "first", patch_width, width_, WeightKind::edge)](Graph& g, Values& v) {
            v["x"] = ggml_concat(g.context, v.at("context"), in(g, v.at("x")), 1);
        };
    });
    for (int i = 0; i < s.count("blocks"); ++i) {
        const Scope own = s / "blocks" / i;
        block(
            "blocks." + std::to_string(i), [&] { return AttentionHalf(own, width_, head_, eps_); },
            [&] { return FeedForwardHalf(own, width_, eps_); });
    }
    stage("last", [&] {
        const Scope last = s / "last";
        return [lin = table(last, "modulation.lin", 2, width_), norm = RmsNorm(last / "norm", width_, eps_, less_one),
                linear = Linear(last / "linear", width_, patch_width, WeightKind::edge)](Graph& g, Values& v) {
            ggml_context* c = g.context;
            ggml_tensor *x = v.at("x"), *time = v.at("time"), *own = one_row(g, lin);
            const auto part = [&](int64_t number) {  // the timestep's vector plus the learned one
                ggml_tensor* learned = ggml_view_1d(c, own, time->ne[0], static_cast<size_t>(number) * time->nb[1]);
                return chunk(g, ggml_add(c, time, learned), 0, 1);
            };
            const int64_t text = v.at("context")->ne[1];
            x = tokens_of(g, x, text, x->ne[1] - text);
            v["x"] = linear(g, modulated(g, norm(g, x), part(0), part(1)));
        };
    });
}

// Blocks across the layers that the states of a token come from, a sum over them, then blocks across tokens.
void Krea::text_stages(const Scope& s) {
    const Scope fusion = s / "txtfusion";
    const auto blocks = [&](const std::string& list, bool across_tokens) {
        for (int i = 0; i < fusion.count(list); ++i) {
            const Scope own = fusion / list / i;
            const std::string name = "txtfusion." + list + "." + std::to_string(i);
            const auto apart = [=, this](Graph& g, ggml_tensor* x) {
                return across_tokens || x->ne[0] == text_width_
                           ? x
                           : ggml_reshape_3d(g.context, x, text_width_, taps_, x->ne[1] * x->ne[2]);
            };
            stage(name, [&] {
                const auto half = std::make_shared<TextAttention>(own, text_width_, eps_);
                return [=](Graph& g, Values& v) {
                    ggml_tensor* mask = across_tokens ? value_or_null(v, "context_mask") : nullptr;
                    v["context"] = (*half)(g, apart(g, v.at("context")), mask);
                };
            });
            stage(
                name + ".1",
                [&] {
                    const auto half = std::make_shared<TextFeedForward>(own, text_width_, eps_);
                    return [=](Graph& g, Values& v) { v["context"] = (*half)(g, v.at("context")); };
                },
                true);
        }
    };
    blocks("layerwise_blocks", false);
    stage("txtfusion.projector", [&] {
        return
            [sum = Linear(fusion / "projector", taps_, 1, WeightKind::edge), width = text_width_](Graph& g, Values& v) {
                ggml_context* c = g.context;
                ggml_tensor* x = v.at("context");  // [tokens, taps, width]
                const int64_t pictures = v.at("rope")->ne[2];
                x = sum(g, ggml_cont(c, ggml_permute(c, x, 1, 0, 2, 3)));
                v["context"] = ggml_reshape_3d(c, x, width, x->ne[2] / pictures, pictures);
            };
    });
    blocks("refiner_blocks", true);
    stage("txtmlp", [&] {
        return [norm = RmsNorm(s / "txtmlp.0", text_width_, eps_, less_one),
                first = Linear(s / "txtmlp.1", text_width_, width_, WeightKind::edge),
                second = Linear(s / "txtmlp.3", width_, width_, WeightKind::edge)](Graph& g, Values& v) {
            v["context"] = second(g, gelu_tanh(g, first(g, norm(g, v.at("context")))));
        };
    });
}

std::vector<Array> Krea::positions(const PatchSizes& sizes) const {
    const auto& [rows, columns, texts] = sizes;
    const auto pictures = static_cast<int64_t>(texts.size()), picture = rows * columns;
    const int64_t longest = *std::max_element(texts.begin(), texts.end());
    const RopeTable table(axes_, theta_, {1, rows, columns});
    std::vector<float> rope;
    for (int64_t n = 0; n < pictures; ++n) {
        for (int64_t t = 0; t < longest; ++t) table.append(rope, std::array<int64_t, 3>{0, 0, 0});
        for (int64_t t = 0; t < picture; ++t) table.append(rope, std::array<int64_t, 3>{0, t / columns, t % columns});
    }
    std::vector<Array> out = {Array::of("rope", {pictures, longest + picture, 2 * head_}, std::move(rope))};
    if (std::any_of(texts.begin(), texts.end(), [&](int64_t text) { return text != longest; })) {
        out.push_back(padding_mask("context_mask", texts, longest, 0));
        out.push_back(padding_mask("mask", texts, longest, picture));
    }
    return out;
}

std::vector<Array> Krea::inputs(const Noisy& noisy) const {
    const auto& made =
        positions_.of(PatchSizes::of(noisy, patch), [this](const PatchSizes& own) { return positions(own); });
    const int64_t tokens = noisy.shape.height / patch * (noisy.shape.width / patch);
    std::vector<Array> out = {Array::of("x", {noisy.rows(), tokens, channels_ * patch * patch},
                                        patches(noisy.x, noisy.shape, patch, PatchOrder::channel_first)),
                              Array::of("time", {noisy.rows(), sinusoids_}, sinusoids(noisy.timesteps, sinusoids_)),
                              joined(noisy.conditionings, "context")};
    out.insert(out.end(), made.begin(), made.end());
    return out;
}

std::vector<float> Krea::prediction(const Array& result, const Noisy& noisy) const {
    return from_patches(result, noisy.shape, patch, PatchOrder::channel_first);
}

}  // namespace sdcpp
