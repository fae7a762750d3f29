#include "models/z_image.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <memory>
#include <optional>

#include "base/error.h"
#include "models/patches.h"
#include "models/rope.h"
#include "models/transformer_parts.h"
#include "nn/layers.h"

namespace sdcpp {
namespace {

constexpr int64_t sequence_multiple = 32;  // sequences are padded to whole multiples of it
constexpr float eps = 1e-5f;

int64_t padded(int64_t tokens) { return (tokens + sequence_multiple - 1) / sequence_multiple * sequence_multiple; }

struct Attention {
    Linear to_q, to_k, to_v, out;
    RmsNorm q_norm, k_norm;
    int64_t heads, head;

    Attention(const Scope& s, int64_t width, int64_t size)
        : to_q(s / "to_q", width, width),
          to_k(s / "to_k", width, width),
          to_v(s / "to_v", width, width),
          out(s / "out", width, width),
          q_norm(s / "q_norm", size, eps),
          k_norm(s / "k_norm", size, eps),
          heads(width / size),
          head(size) {}

    ggml_tensor* placed(Graph& g, ggml_tensor* x, const RmsNorm& norm, ggml_tensor* rope) const {
        ggml_tensor* split = ggml_reshape_4d(g.context, x, head, heads, x->ne[1], x->ne[2]);
        ggml_tensor* normed = ggml_reshape_3d(g.context, norm(g, split), x->ne[0], x->ne[1], x->ne[2]);
        return apply_rope(g, normed, rope, heads);
    }

    ggml_tensor* operator()(Graph& g, ggml_tensor* x, ggml_tensor* rope, ggml_tensor* mask) const {
        ggml_tensor* q = placed(g, to_q(g, x), q_norm, rope);
        ggml_tensor* k = placed(g, to_k(g, x), k_norm, rope);
        return out(g, attention(g, q, k, to_v(g, x), heads, mask));
    }
};

struct FeedForward {
    Linear w1, w2, w3;

    FeedForward(const Scope& s, int64_t width)
        : w1(s / "w1", width, s.side("w1.weight", 0)), w2(s / "w2", w1.out(), width), w3(s / "w3", width, w1.out()) {}

    ggml_tensor* operator()(Graph& g, ggml_tensor* x) const {
        return w2(g, ggml_swiglu_split(g.context, w1(g, x), w3(g, x)));
    }
};

// The halves of a block, which are stages of their own. Scales and gates come from the timestep, [N, 4 * C]; the text's
// own blocks have none.
struct AttentionHalf {
    Attention self_attention;
    RmsNorm attention_norm1, attention_norm2;
    std::optional<Linear> modulation;

    // `time`: the width of the timestep's embedding.
    AttentionHalf(const Scope& s, int64_t width, int64_t head, int64_t time)
        : self_attention(s / "attention", width, head),
          attention_norm1(s / "attention_norm1", width, eps),
          attention_norm2(s / "attention_norm2", width, eps) {
        if (s.has("adaLN_modulation.0")) modulation.emplace(s / "adaLN_modulation.0", time, 4 * width);
    }

    ggml_tensor* operator()(Graph& g, ggml_tensor* x, ggml_tensor* rope, ggml_tensor* mask, ggml_tensor* all) const {
        ggml_context* c = g.context;
        ggml_tensor* n = attention_norm1(g, x);
        if (all) n = ggml_mul(c, n, one_plus(g, chunk(g, all, 0, 4)));
        ggml_tensor* a = attention_norm2(g, self_attention(g, n, rope, mask));
        return ggml_add(c, x, all ? ggml_mul(c, a, ggml_tanh(c, chunk(g, all, 1, 4))) : a);
    }
};

struct FeedForwardHalf {
    FeedForward feed_forward;
    RmsNorm ffn_norm1, ffn_norm2;

    FeedForwardHalf(const Scope& s, int64_t width)
        : feed_forward(s / "feed_forward", width),
          ffn_norm1(s / "ffn_norm1", width, eps),
          ffn_norm2(s / "ffn_norm2", width, eps) {}

    ggml_tensor* operator()(Graph& g, ggml_tensor* x, ggml_tensor* all) const {
        ggml_context* c = g.context;
        ggml_tensor* n = ffn_norm1(g, x);
        if (all) n = ggml_mul(c, n, one_plus(g, chunk(g, all, 2, 4)));
        ggml_tensor* f = ffn_norm2(g, feed_forward(g, n));
        return ggml_add(c, x, all ? ggml_mul(c, f, ggml_tanh(c, chunk(g, all, 3, 4))) : f);
    }
};

}  // namespace

ZImage::ZImage(const ModelFiles& files) : Denoiser(files, "z_image") {
    const Scope s = root();
    const Json& config = files.config()["transformer"];
    width_ = s.side("x_embedder.weight", 0);
    const int64_t patch_width = s.side("x_embedder.weight", 1);
    channels_ = patch_width / (patch * patch);
    context_width_ = s.side("cap_embedder.1.weight", 1);
    head_ = s.side("layers.0.attention.q_norm.weight", 0);
    sinusoids_ = s.side("t_embedder.mlp.0.weight", 1);
    theta_ = config.number_or("rope_theta", 256);
    axes_ = config.integers("axes_dims");
    if (axes_.empty()) {
        const auto each = static_cast<int>(head_ * 3 / 8);  // 32, 48 and 48 of the released model's 128
        axes_ = {static_cast<int>(head_) - 2 * each, each, each};
    }
    if (!splits_head(axes_, head_) || width_ % head_ != 0)
        fail(SDCPP_UNSUPPORTED_MODEL, "Z-Image with a width of ", width_, " in heads of ", head_,
             ": \"axes_dims\" in its config must be three even numbers that add up to a head");

    const int64_t time = s.side("t_embedder.mlp.2.weight", 0);
    stage("t_embedder", [&] {
        const Scope mlp = s / "t_embedder.mlp";
        const int64_t middle = mlp.side("0.weight", 0);
        return [first = Linear(mlp / 0, sinusoids_, middle, WeightKind::edge),
                second = Linear(mlp / 2, middle, time, WeightKind::edge)](Graph& g, Values& v) {
            v["time"] = second(g, ggml_silu(g.context, first(g, v.at("time"))));
        };
    });
    stage("x_embedder", [&] {
        const Weight* pad = s.weight("x_pad_token", WeightKind::vector, {1, width_});
        return [embed = Linear(s / "x_embedder", patch_width, width_, WeightKind::edge), pad](Graph& g, Values& v) {
            ggml_context* c = g.context;
            ggml_tensor* x = embed(g, v.at("x"));
            const int64_t more = padded(x->ne[1]) - x->ne[1];
            v["x"] = more == 0 ? x : ggml_concat(c, x, ggml_repeat_4d(c, pad->tensor, x->ne[0], more, x->ne[2], 1), 1);
        };
    });
    // Blocks that work on the value `x`.
    const auto blocks = [&](const std::string& list, const std::string& x, const std::string& rope,
                            const std::string& mask) {
        for (int i = 0; i < s.count(list); ++i) {
            const Scope own = s / list / i;
            const std::string name = list + "." + std::to_string(i);
            stage(name, [&] {
                const auto half = std::make_shared<AttentionHalf>(own, width_, head_, time);
                return [=](Graph& g, Values& v) {
                    if (half->modulation) v["modulation"] = (*half->modulation)(g, v.at("time"));
                    v[x] = (*half)(g, v.at(x), v.at(rope), value_or_null(v, mask), value_or_null(v, "modulation"));
                };
            });
            stage(
                name + ".1",
                [&] {
                    const auto half = std::make_shared<FeedForwardHalf>(own, width_);
                    return [=](Graph& g, Values& v) {
                        v[x] = (*half)(g, v.at(x), value_or_null(v, "modulation"));
                        v.erase("modulation");
                    };
                },
                true);
        }
    };
    blocks("noise_refiner", "x", "x_rope", "");
    stage("cap_embedder", [&] {
        const Weight* pad = s.weight("cap_pad_token", WeightKind::vector, {1, width_});
        return
            [norm = RmsNorm(s / "cap_embedder.0", context_width_, eps),
             embed = Linear(s / "cap_embedder.1", context_width_, width_, WeightKind::edge), pad](Graph& g, Values& v) {
                ggml_context* c = g.context;
                ggml_tensor* text = embed(g, norm(g, v.at("context")));
                ggml_tensor* fill = ggml_repeat(c, pad->tensor, text);
                ggml_tensor* fills = ggml_scale_bias(c, v.at("kept"), -1, 1);
                v["context"] = ggml_add(c, ggml_mul(c, text, v.at("kept")), ggml_mul(c, fill, fills));
            };
    });
    blocks("context_refiner", "context", "context_rope", "context_mask");
    stage("positions", [] {
        return [](Graph& g, Values& v) { v["rope"] = ggml_concat(g.context, v.at("x_rope"), v.at("context_rope"), 1); };
    });
    stage("join",
          [] { return [](Graph& g, Values& v) { v["x"] = ggml_concat(g.context, v.at("x"), v.at("context"), 1); }; });
    blocks("layers", "x", "rope", "mask");
    stage("final_layer", [&] {
        const Scope f = s / "final_layer";
        return [modulation = Linear(f / "adaLN_modulation.1", time, width_, WeightKind::edge),
                linear = Linear(f / "linear", width_, patch_width, WeightKind::edge)](Graph& g, Values& v) {
            ggml_context* c = g.context;
            ggml_tensor* scale = one_plus(g, modulation(g, ggml_silu(c, v.at("time"))));
            ggml_tensor* x = ggml_norm(c, v.at("x"), 1e-6f);
            x = ggml_mul(c, x, ggml_reshape_3d(c, scale, scale->ne[0], 1, scale->ne[1]));
            v["x"] = ggml_scale(c, linear(g, x), -1);  // it was trained towards the picture
        };
    });
}

// Inputs that depend on sizes alone: a mark for the text's own tokens, positions, and masks if texts differ in length.
std::vector<Array> ZImage::positions(const PatchSizes& sizes) const {
    const auto& [rows, columns, texts] = sizes;
    const auto count = static_cast<int64_t>(texts.size());
    const int64_t picture = rows * columns, picture_padded = padded(picture);
    const int64_t longest = padded(*std::max_element(texts.begin(), texts.end()));
    const bool mixed = std::any_of(texts.begin(), texts.end(), [&](int64_t text) { return padded(text) != longest; });

    const RopeTable table(axes_, theta_, {longest + 2, rows, columns});
    const auto place = [&](std::vector<float>& into, int64_t sequence, int64_t row, int64_t column) {
        table.append(into, std::array<int64_t, 3>{sequence, row, column});
    };
    std::vector<float> kept, x_rope, context_rope;
    x_rope.reserve(static_cast<size_t>(count * picture_padded * 2 * head_));
    std::vector<ggml_fp16_t> mask, context_mask;
    const ggml_fp16_t seen = ggml_fp32_to_fp16(0), hidden = ggml_fp32_to_fp16(-std::numeric_limits<float>::infinity());
    for (const int64_t text : texts) {
        const int64_t own = padded(text);
        for (int64_t t = 0; t < longest; ++t) {
            kept.push_back(t < text ? 1.0f : 0.0f);
            place(context_rope, t + 1, 0, 0);
        }
        for (int64_t t = 0; t < picture_padded; ++t) {
            if (t < picture)
                place(x_rope, own + 1, t / columns, t % columns);
            else
                place(x_rope, 0, 0, 0);
        }
        if (mixed) {
            const auto hide = [&](std::vector<ggml_fp16_t>& into, int64_t before) {
                for (int64_t query = 0; query < before + longest; ++query)
                    for (int64_t key = 0; key < before + longest; ++key)
                        into.push_back(key < before + own ? seen : hidden);
            };
            hide(context_mask, 0);
            hide(mask, picture_padded);
        }
    }
    std::vector<Array> out = {Array::of("kept", {count, longest, 1}, std::move(kept)),
                              Array::of("x_rope", {count, picture_padded, 2 * head_}, std::move(x_rope)),
                              Array::of("context_rope", {count, longest, 2 * head_}, std::move(context_rope))};
    if (mixed) {
        const int64_t all = picture_padded + longest;
        out.push_back(Array::of("context_mask", {count, 1, longest, longest}, std::move(context_mask)));
        out.push_back(Array::of("mask", {count, 1, all, all}, std::move(mask)));
    }
    return out;
}

std::vector<Array> ZImage::inputs(const Noisy& noisy) const {
    const auto& made =
        positions_.of(PatchSizes::of(noisy, patch), [this](const PatchSizes& own) { return positions(own); });
    const int64_t tokens = noisy.shape.height / patch * (noisy.shape.width / patch);
    std::vector<float> timesteps;  // it counts from noise to picture
    for (const float timestep : noisy.timesteps) timesteps.push_back(1000 - timestep);
    std::vector<Array> out = {Array::of("x", {noisy.rows(), tokens, channels_ * patch * patch},
                                        patches(noisy.x, noisy.shape, patch, PatchOrder::place_first)),
                              Array::of("time", {noisy.rows(), sinusoids_}, sinusoids(timesteps, sinusoids_)),
                              joined(noisy.conditionings, "context", sequence_multiple)};
    out.insert(out.end(), made.begin(), made.end());
    return out;
}

std::vector<float> ZImage::prediction(const Array& result, const Noisy& noisy) const {
    return from_patches(result, noisy.shape, patch, PatchOrder::place_first);
}

}  // namespace sdcpp
