#include "models/flux.h"

#include <array>
#include <memory>
#include <optional>

#include "base/error.h"
#include "models/flux_parts.h"
#include "models/patches.h"
#include "models/rope.h"
#include "models/transformer_parts.h"
#include "nn/layers.h"

namespace sdcpp {
namespace {

// A single block's attention and the first of its feed-forward layers, side by side; the second half joins them.
struct SingleIn {
    Linear modulation;
    FluxProjections projections;
    Linear mlp;
    int64_t heads;

    SingleIn(const Scope& s, int64_t width, int64_t head)
        : modulation(s / "modulation.lin", width, 3 * width),
          projections(s, s / "norm", width, head),
          mlp(s / "mlp", width, s.side("mlp.weight", 0)),
          heads(width / head) {}

    void operator()(Graph& g, Values& v) const {
        ggml_context* c = g.context;
        ggml_tensor* mod = modulation(g, ggml_silu(c, v.at("vec")));
        ggml_tensor* n = modulated_norm(g, v.at("x"), chunk(g, mod, 0, 3), chunk(g, mod, 1, 3));
        ggml_tensor* q = apply_rope(g, projections.q(g, n), v.at("rope"), heads);
        ggml_tensor* k = apply_rope(g, projections.k(g, n), v.at("rope"), heads);
        v["attended"] = attention(g, q, k, projections.v(g, n), heads);
        v["mlp"] = gelu_tanh(g, mlp(g, n));
        v["gate"] = chunk(g, mod, 2, 3);
    }
};

struct SingleOut {
    Linear linear2;

    SingleOut(const Scope& s, int64_t width) : linear2(s / "linear2", width + s.side("mlp.weight", 0), width) {}

    void operator()(Graph& g, Values& v) const {
        ggml_context* c = g.context;
        ggml_tensor* both = ggml_concat(c, v.at("attended"), v.at("mlp"), 0);
        v["x"] = ggml_add(c, v.at("x"), ggml_mul(c, linear2(g, both), v.at("gate")));
        for (const char* done : {"attended", "mlp", "gate"}) v.erase(done);
    }
};

}  // namespace

Flux::Flux(const ModelFiles& files) : Denoiser(files, "flux") {
    const Scope s = root();
    const Json& config = files.config()["transformer"];
    width_ = s.side("img_in.weight", 0);
    const int64_t patch_width = s.side("img_in.weight", 1);
    in_channels_ = patch_width / (patch * patch);
    out_channels_ = s.side("final_layer.linear.weight", 0) / (patch * patch);
    context_width_ = s.side("txt_in.weight", 1);
    pooled_width_ = s.side("vector_in.in_layer.weight", 1);
    sinusoids_ = s.side("time_in.in_layer.weight", 1);
    head_ = s.side("double_blocks.0.img_attn.norm.query_norm.weight", 0);
    guided_ = s.has("guidance_in");
    theta_ = config.number_or("theta", 10000);
    axes_ = config.integers("axes_dims_rope");
    if (axes_.empty()) {
        const auto first = static_cast<int>(head_ / 8), each = static_cast<int>(head_ * 7 / 16);
        axes_ = {first, each, each};  // 16, 56 and 56 of the released models' 128
    }
    if (!splits_head(axes_, head_) || width_ % head_ != 0 || patch_width % 4 != 0)
        fail(SDCPP_UNSUPPORTED_MODEL, "a FLUX transformer with a width of ", width_, " in heads of ", head_,
             ": \"axes_dims_rope\" in its config must be three even numbers that add up to a head");

    stage("embedders", [&] {
        struct Embedders {
            FluxEmbedding time, vector;
            std::optional<FluxEmbedding> guidance;
        };
        const auto made =
            std::make_shared<Embedders>(Embedders{FluxEmbedding(s / "time_in", sinusoids_, width_),
                                                  FluxEmbedding(s / "vector_in", pooled_width_, width_), std::nullopt});
        if (guided_) made->guidance.emplace(s / "guidance_in", sinusoids_, width_);
        return [made](Graph& g, Values& v) {
            ggml_tensor* vec = made->time(g, v.at("time"));
            if (made->guidance) vec = ggml_add(g.context, vec, (*made->guidance)(g, v.at("guidance")));
            v["vec"] = ggml_add(g.context, vec, made->vector(g, v.at("pooled")));
        };
    });
    stage("img_in", [&] {
        return [in = Linear(s / "img_in", patch_width, width_, WeightKind::edge)](Graph& g, Values& v) {
            v["x"] = in(g, v.at("x"));
        };
    });
    stage("txt_in", [&] {
        return [in = Linear(s / "txt_in", context_width_, width_, WeightKind::edge)](Graph& g, Values& v) {
            v["context"] = in(g, v.at("context"));
        };
    });
    for (int i = 0; i < s.count("double_blocks"); ++i) {
        const Scope block = s / "double_blocks" / i;
        const std::string name = "double_blocks." + std::to_string(i);
        stage(name, [&] { return JointAttention(block, width_, head_); });
        stage(name + ".1", [&] { return JointFeedForward(block, width_); }, true);
    }
    stage("join",
          [] { return [](Graph& g, Values& v) { v["x"] = ggml_concat(g.context, v.at("context"), v.at("x"), 1); }; });
    for (int i = 0; i < s.count("single_blocks"); ++i) {
        const Scope block = s / "single_blocks" / i;
        const std::string name = "single_blocks." + std::to_string(i);
        stage(name, [&] { return SingleIn(block, width_, head_); });
        stage(name + ".1", [&] { return SingleOut(block, width_); }, true);
    }
    stage("final_layer", [&] {
        const Scope f = s / "final_layer";
        return [shift = Linear(f / "shift", width_, width_, WeightKind::edge),
                scale = Linear(f / "scale", width_, width_, WeightKind::edge),
                linear = Linear(f / "linear", width_, out_channels_ * patch * patch, WeightKind::edge)](Graph& g,
                                                                                                        Values& v) {
            ggml_context* c = g.context;
            ggml_tensor* vec = ggml_silu(c, v.at("vec"));
            ggml_tensor* x = v.at("x");
            const int64_t text = v.at("context")->ne[1];
            x = tokens_of(g, x, text, x->ne[1] - text);
            v["x"] = linear(g, modulated_norm(g, x, chunk(g, shift(g, vec), 0, 1), chunk(g, scale(g, vec), 0, 1)));
        };
    });
}

std::vector<Array> Flux::inputs(const Noisy& noisy) const {
    const int64_t rows = noisy.shape.height / patch, columns = noisy.shape.width / patch;
    Array context = joined(noisy.conditionings, "context");
    const int64_t text = context.shape[1];
    if (const Sizes sizes = {noisy.rows(), text, rows, columns}; sizes != rope_of_) {
        const RopeTable table(axes_, theta_, {1, rows, columns});
        std::vector<float> rope;
        for (int64_t n = 0; n < noisy.rows(); ++n) {
            for (int64_t t = 0; t < text; ++t) table.append(rope, std::array<int64_t, 3>{0, 0, 0});
            for (int64_t t = 0; t < rows * columns; ++t)
                table.append(rope, std::array<int64_t, 3>{0, t / columns, t % columns});
        }
        rope_ = Array::of("rope", {noisy.rows(), text + rows * columns, 2 * head_}, std::move(rope));
        rope_of_ = sizes;
    }
    std::vector<Array> out = {Array::of("x", {noisy.rows(), rows * columns, in_channels_ * patch * patch},
                                        patches(noisy.x, noisy.shape, patch, PatchOrder::channel_first)),
                              Array::of("time", {noisy.rows(), sinusoids_}, sinusoids(noisy.timesteps, sinusoids_)),
                              std::move(context), joined(noisy.conditionings, "pooled"), rope_};
    if (guided_) out.push_back(guidance_sinusoids(noisy, sinusoids_));
    return out;
}

std::vector<float> Flux::prediction(const Array& result, const Noisy& noisy) const {
    LatentShape shape = noisy.shape;
    shape.channels = out_channels_;
    return from_patches(result, shape, patch, PatchOrder::channel_first);
}

}  // namespace sdcpp
