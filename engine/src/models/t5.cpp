#include "models/t5.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>

#include "base/error.h"
#include "models/transformer_parts.h"
#include "nn/layer_parts.h"
#include "nn/layers.h"

namespace sdcpp {
namespace {

// softmax(q k^T + bias) v: q, k and v [N, T, C], bias f32 [heads, Tq, Tk].
ggml_tensor* biased_attention(Graph& g, ggml_tensor* q, ggml_tensor* k, ggml_tensor* v, int64_t heads,
                              ggml_tensor* bias) {
    ggml_context* c = g.context;
    const int64_t channels = q->ne[0], batch = q->ne[2];
    const auto by_heads = [&](ggml_tensor* x) {  // [N, T, C] to [N, heads, T, d]
        return ggml_permute(c, ggml_reshape_4d(c, x, channels / heads, heads, x->ne[1], batch), 0, 2, 1, 3);
    };
    ggml_tensor* scores = ggml_mul_mat(c, ggml_cont(c, by_heads(k)), ggml_cont(c, by_heads(q)));
    sum_in_f32(scores);
    ggml_tensor* shares = ggml_soft_max_ext(c, scores, bias, 1.0f, 0.0f);
    ggml_tensor* out = ggml_mul_mat(c, ggml_cont(c, ggml_permute(c, by_heads(v), 1, 0, 2, 3)), shares);
    sum_in_f32(out);
    return ggml_reshape_3d(c, ggml_cont(c, ggml_permute(c, out, 0, 2, 1, 3)), channels, q->ne[1], batch);
}

// Without a scale, and with a bias for the distance of query and key, [heads, Tq, Tk], that all layers share.
struct SelfAttention {
    Linear q, k, v, o;
    int64_t heads;

    SelfAttention(const Scope& s, int64_t width, int64_t inner, int64_t head_count)
        : q(s / "q", width, inner),
          k(s / "k", width, inner),
          v(s / "v", width, inner),
          o(s / "o", inner, width),
          heads(head_count) {}

    ggml_tensor* operator()(Graph& g, ggml_tensor* x, ggml_tensor* bias) const {
        return o(g, biased_attention(g, q(g, x), k(g, x), v(g, x), heads, bias));
    }
};

// The halves of a block, which are stages of their own.
struct AttentionHalf {
    RmsNorm layer_norm;
    SelfAttention attention;

    AttentionHalf(const Scope& s, int64_t width, int64_t inner, int64_t heads, float eps)
        : layer_norm(s / "layer_norm", width, eps), attention(s / "SelfAttention", width, inner, heads) {}

    void operator()(Graph& g, Values& v) const {
        ggml_tensor* x = v.at("x");
        v["x"] = ggml_add(g.context, x, attention(g, layer_norm(g, x), v.at("bias")));
    }
};

struct FeedForwardHalf {
    RmsNorm layer_norm;
    Linear wi_0, wi_1, wo;

    FeedForwardHalf(const Scope& s, int64_t width, float eps)
        : layer_norm(s / "layer_norm", width, eps),
          wi_0(s / "DenseReluDense.wi_0", width, s.side("DenseReluDense.wi_0.weight", 0)),
          wi_1(s / "DenseReluDense.wi_1", width, wi_0.out()),
          wo(s / "DenseReluDense.wo", wi_0.out(), width) {}

    void operator()(Graph& g, Values& v) const {
        ggml_context* c = g.context;
        ggml_tensor* x = v.at("x");
        ggml_tensor* n = layer_norm(g, x);
        v["x"] = ggml_add(c, x, wo(g, ggml_mul(c, gelu_tanh(g, wi_0(g, n)), wi_1(g, n))));
    }
};

// The bucket of a distance from query to key. Each direction has half of the buckets. The nearer half of these is
// exact; the others grow with the logarithm up to `longest`.
int32_t bucket_of(int64_t distance, int64_t buckets, int longest) {
    const int64_t half = buckets / 2, exact = half / 2;
    const int64_t away = std::abs(distance);
    int64_t bucket = away;
    if (away >= exact) {
        // in single precision, as the reference
        const float share = std::log(static_cast<float>(away) / static_cast<float>(exact)) /
                            static_cast<float>(std::log(static_cast<double>(longest) / static_cast<double>(exact)));
        bucket = std::min(exact + static_cast<int64_t>(share * static_cast<float>(half - exact)), half - 1);
    }
    return static_cast<int32_t>(bucket + (distance > 0 ? half : 0));
}

}  // namespace

T5::T5(const ModelFiles& files) : TextEncoder(files, "t5") {
    const Scope s = root();
    const Json& config = files.config()["t5"];
    const auto eps = static_cast<float>(config.number_or("layer_norm_epsilon", 1e-6));
    vocabulary_ = s.side("shared.weight", 0);
    width_ = s.side("shared.weight", 1);
    layers_ = (s / "encoder").count("block");
    longest_distance_ = static_cast<int>(config.number_or("relative_attention_max_distance", 128));
    if (layers_ == 0) fail(SDCPP_MISSING_PART, "the text encoder T5 has no layers");
    const std::string bias = "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight";
    buckets_ = s.side(bias, 0);
    const int64_t heads = s.side(bias, 1), inner = s.side("encoder.block.0.layer.0.SelfAttention.q.weight", 0);
    if (buckets_ < 4 || buckets_ % 4 != 0 || inner % heads != 0 || longest_distance_ <= buckets_ / 4)
        fail(SDCPP_UNSUPPORTED_MODEL, "T5 with ", inner, " values of queries in ", heads, " heads and ", buckets_,
             " classes of distances up to ", longest_distance_);

    declare_embeddings(s, "shared.weight", vocabulary_, width_);
    stage("relative_attention_bias", [&] {
        const Weight* table = s.weight(bias, WeightKind::vector, {buckets_, heads});
        return [=](Graph& g, Values& v) {
            ggml_context* c = g.context;
            ggml_tensor* rows = ggml_get_rows(c, table->tensor, v.at("buckets"));  // [Tq * Tk, heads]
            const auto side = static_cast<int64_t>(std::llround(std::sqrt(static_cast<double>(rows->ne[1]))));
            ggml_tensor* by_head =
                ggml_cont(c, ggml_permute(c, ggml_reshape_3d(c, rows, heads, side, side), 2, 0, 1, 3));
            ggml_tensor* hidden = value_or_null(v, "hidden");
            v["bias"] = hidden ? ggml_add(c, by_head, hidden) : by_head;
        };
    });
    for (int i = 0; i < layers_; ++i) {
        const Scope block = s / "encoder.block" / i / "layer";
        const std::string name = "block." + std::to_string(i);
        stage(name, [&] { return AttentionHalf(block / 0, width_, inner, heads, eps); });
        stage(name + ".1", [&] { return FeedForwardHalf(block / 1, width_, eps); }, true);
        const std::string kept = "states." + std::to_string(i + 1);
        stage(kept, [&] { return [kept](Graph&, Values& v) { v[kept] = v.at("x"); }; });
    }
    stage("final_layer_norm", [&] {
        return [norm = RmsNorm(s / "encoder.final_layer_norm", width_, eps)](Graph& g, Values& v) {
            v["x"] = norm(g, v.at("x"));
        };
    });
}

std::vector<Array> T5::inputs(std::span<const int32_t> tokens, int64_t rows, bool hides_padding) const {
    const auto length = static_cast<int64_t>(tokens.size()) / rows;
    std::vector<int32_t> buckets;
    for (int64_t query = 0; query < length; ++query)
        for (int64_t key = 0; key < length; ++key)
            buckets.push_back(bucket_of(key - query, buckets_, longest_distance_));
    std::vector<Array> out = {Array::of("x", {rows, length, width_}, embedded(tokens)),
                              Array::of("buckets", {length * length}, std::move(buckets), true)};
    if (hides_padding) {
        if (rows != 1) fail(SDCPP_INTERNAL, "T5 hides padding of one text at a time");
        std::vector<float> hidden(tokens.size());
        for (size_t t = tokens.size(); t-- > 1 && tokens[t] == traits().padding;)
            hidden[t] = -std::numeric_limits<float>::infinity();
        out.push_back(Array::of("hidden", {length}, std::move(hidden), true));
    }
    return out;
}

}  // namespace sdcpp
