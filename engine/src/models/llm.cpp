#include "models/llm.h"

#include <algorithm>
#include <numeric>
#include <optional>

#include "base/error.h"
#include "models/masks.h"
#include "nn/layers.h"

namespace sdcpp {
namespace {

struct Shape {
    int64_t width, heads, key_heads, head;  // head: its size
    float eps, theta;
};

// The norm of each head's queries or keys, if the model has one.
std::optional<RmsNorm> head_norm(const Scope& s, std::string_view name, const Shape& shape) {
    if (!s.has(name)) return std::nullopt;
    return RmsNorm(s / name, shape.head, shape.eps);
}

struct Attention {
    Shape shape;
    Linear q_proj, k_proj, v_proj, o_proj;
    std::optional<RmsNorm> q_norm, k_norm;

    Attention(const Scope& s, const Shape& of)
        : shape(of),
          q_proj(s / "q_proj", of.width, of.heads * of.head),
          k_proj(s / "k_proj", of.width, of.key_heads * of.head),
          v_proj(s / "v_proj", of.width, of.key_heads * of.head),
          o_proj(s / "o_proj", of.heads * of.head, of.width),
          q_norm(head_norm(s, "q_norm", of)),
          k_norm(head_norm(s, "k_norm", of)) {}

    // Rotary positions over the halves of each head (GPT-NeoX's order).
    ggml_tensor* placed(Graph& g, ggml_tensor* x, const std::optional<RmsNorm>& norm, ggml_tensor* positions) const {
        ggml_context* c = g.context;
        ggml_tensor* split = ggml_reshape_4d(c, x, shape.head, x->ne[0] / shape.head, x->ne[1], x->ne[2]);
        if (norm) split = (*norm)(g, split);
        split = ggml_rope_ext(c, split, positions, nullptr, static_cast<int>(shape.head), GGML_ROPE_TYPE_NEOX, 0,
                              shape.theta, 1, 0, 1, 0, 0);
        return ggml_reshape_3d(c, split, x->ne[0], x->ne[1], x->ne[2]);
    }

    ggml_tensor* operator()(Graph& g, ggml_tensor* x, ggml_tensor* mask, ggml_tensor* positions) const {
        ggml_tensor* q = placed(g, q_proj(g, x), q_norm, positions);
        ggml_tensor* k = placed(g, k_proj(g, x), k_norm, positions);
        return o_proj(g, attention(g, q, k, v_proj(g, x), shape.heads, mask));
    }
};

// The halves of a layer, which are stages of their own.
struct AttentionHalf {
    RmsNorm input_layernorm;
    Attention self_attn;

    AttentionHalf(const Scope& s, const Shape& of)
        : input_layernorm(s / "input_layernorm", of.width, of.eps), self_attn(s / "self_attn", of) {}

    void operator()(Graph& g, Values& v) const {
        ggml_tensor* x = v.at("x");
        v["x"] = ggml_add(g.context, x, self_attn(g, input_layernorm(g, x), v.at("mask"), v.at("positions")));
    }
};

struct MlpHalf {
    RmsNorm post_attention_layernorm;
    Linear gate_proj, up_proj, down_proj;

    MlpHalf(const Scope& s, const Shape& of)
        : post_attention_layernorm(s / "post_attention_layernorm", of.width, of.eps),
          gate_proj(s / "mlp.gate_proj", of.width, s.side("mlp.gate_proj.weight", 0)),
          up_proj(s / "mlp.up_proj", of.width, gate_proj.out()),
          down_proj(s / "mlp.down_proj", gate_proj.out(), of.width) {}

    void operator()(Graph& g, Values& v) const {
        ggml_context* c = g.context;
        ggml_tensor* x = v.at("x");
        ggml_tensor* n = post_attention_layernorm(g, x);
        v["x"] = ggml_add(c, x, down_proj(g, ggml_swiglu_split(c, gate_proj(g, n), up_proj(g, n))));
    }
};

Shape shape_of(const Scope& s, int64_t width, const Json& config, double rotary_base) {
    const int64_t queries = s.side("layers.0.self_attn.q_proj.weight", 0);
    const int64_t keys = s.side("layers.0.self_attn.k_proj.weight", 0);
    const bool normed = s.has("layers.0.self_attn.q_norm.weight");
    const int told = per_level(config.integers("num_attention_heads"), 0, 0);
    // without norms of heads and without a config it is that of Qwen2 and Qwen2.5
    const int64_t head = normed ? s.side("layers.0.self_attn.q_norm.weight", 0) : told > 0 ? queries / told : 128;
    if (head < 2 || head % 2 != 0 || queries % head != 0 || keys % head != 0 || keys == 0 || queries % keys != 0)
        fail(SDCPP_UNSUPPORTED_MODEL, "a language model with ", queries, " values of queries and ", keys,
             " of keys in heads of ", head, "; give \"num_attention_heads\" in its config");
    const double own = Llm::rotary_base_of(config);
    return {width,
            queries / head,
            keys / head,
            head,
            static_cast<float>(config.number_or("rms_norm_eps", 1e-6)),
            static_cast<float>(own > 0 ? own : rotary_base)};
}

// A model that sees, too, keeps its language model's part apart.
const Json& language_part(const Json& config) {
    const Json& part = config["text_config"];
    return part.object() ? part : config;
}

}  // namespace

double Llm::rotary_base_of(const Json& config) {
    const Json& part = language_part(config);
    return part.number_or("rope_theta", part["rope_parameters"].number_or("rope_theta", 0));
}

Llm::Llm(const ModelFiles& files, double rotary_base) : TextEncoder(files, "llm") {
    const Scope s = root();
    const Json& config = language_part(files.config()["text_encoder"]);
    vocabulary_ = s.side("embed_tokens.weight", 0);
    width_ = s.side("embed_tokens.weight", 1);
    declare_embeddings(s, "embed_tokens.weight", vocabulary_, width_);
    layers_ = s.count("layers");
    if (layers_ == 0) fail(SDCPP_MISSING_PART, "the language model has no layers");
    const Shape shape = shape_of(s, width_, config, rotary_base);
    for (int i = 0; i < layers_; ++i) {
        block(
            "layers." + std::to_string(i), [&] { return AttentionHalf(s / "layers" / i, shape); },
            [&] { return MlpHalf(s / "layers" / i, shape); });
        const std::string kept = "states." + std::to_string(i + 1);
        stage(kept, [&] { return [kept](Graph&, Values& v) { v[kept] = v.at("x"); }; });
    }
    stage("norm", [&] {
        return [norm = RmsNorm(s / "norm", width_, shape.eps)](Graph& g, Values& v) { v["x"] = norm(g, v.at("x")); };
    });
}

TextEncoder::Traits Llm::traits() const { return {"qwen2", 0, vocabulary_, width_, layers_, padding}; }

std::vector<Array> Llm::inputs(std::span<const int32_t> tokens, int64_t rows, bool) const {
    const auto length = static_cast<int64_t>(tokens.size()) / rows;
    std::vector<int32_t> positions(static_cast<size_t>(length));
    std::iota(positions.begin(), positions.end(), 0);
    return {Array::of("x", {rows, length, width_}, embedded(tokens)), causal_mask(tokens, rows, padding),
            Array::of("positions", {length}, std::move(positions), true)};
}

}  // namespace sdcpp
