#include "models/flux_2.h"

#include <algorithm>
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

constexpr int64_t between_pictures = 10;  // places along the first axis from a picture to the next

// The modulations "img_mod" and "txt_mod" are six vectors: shift, scale and gate of the attention and of the
// feed-forward layers.
struct DoubleAttention {
    FluxProjections img, txt;
    Linear img_proj, txt_proj;
    int64_t heads;

    DoubleAttention(const Scope& s, int64_t width, int64_t head)
        : img(s / "img_attn", s / "img_attn.norm", width, head),
          txt(s / "txt_attn", s / "txt_attn.norm", width, head),
          img_proj(s / "img_attn.proj", width, width),
          txt_proj(s / "txt_attn.proj", width, width),
          heads(width / head) {}

    void operator()(Graph& g, Values& v) const {
        ggml_context* c = g.context;
        ggml_tensor *x = v.at("x"), *context = v.at("context");
        ggml_tensor *img_mod = v.at("img_mod"), *txt_mod = v.at("txt_mod");
        ggml_tensor* xn = modulated_norm(g, x, chunk(g, img_mod, 0, 6), chunk(g, img_mod, 1, 6));
        ggml_tensor* cn = modulated_norm(g, context, chunk(g, txt_mod, 0, 6), chunk(g, txt_mod, 1, 6));
        const JointlyAttended attended = attend_jointly(g, txt, cn, img, xn, v.at("rope"), heads);
        v["x"] = ggml_add(c, x, ggml_mul(c, img_proj(g, attended.picture), chunk(g, img_mod, 2, 6)));
        v["context"] = ggml_add(c, context, ggml_mul(c, txt_proj(g, attended.text), chunk(g, txt_mod, 2, 6)));
    }
};

struct DoubleFeedForward {
    struct Stream {
        Linear in, out;  // the first gives gates, then what goes through them

        Stream(const Scope& s, int64_t width)
            : in(s / 0, width, s.side("0.weight", 0)), out(s / 2, in.out() / 2, width) {}

        ggml_tensor* operator()(Graph& g, ggml_tensor* x, ggml_tensor* mod) const {
            ggml_context* c = g.context;
            ggml_tensor* n = modulated_norm(g, x, chunk(g, mod, 3, 6), chunk(g, mod, 4, 6));
            return ggml_add(c, x, ggml_mul(c, out(g, ggml_swiglu(c, in(g, n))), chunk(g, mod, 5, 6)));
        }
    };
    Stream img, txt;

    DoubleFeedForward(const Scope& s, int64_t width) : img(s / "img_mlp", width), txt(s / "txt_mlp", width) {}

    void operator()(Graph& g, Values& v) const {
        v["x"] = img(g, v.at("x"), v.at("img_mod"));
        v["context"] = txt(g, v.at("context"), v.at("txt_mod"));
    }
};

// A single block's attention and the first of its feed-forward layers, side by side; the second half joins them.
struct SingleIn {
    FluxProjections projections;
    Linear mlp;
    int64_t heads;

    SingleIn(const Scope& s, int64_t width, int64_t head)
        : projections(s, s / "norm", width, head),
          mlp(s / "mlp", width, s.side("mlp.weight", 0)),
          heads(width / head) {}

    void operator()(Graph& g, Values& v) const {
        ggml_tensor* mod = v.at("mod");
        ggml_tensor* n = modulated_norm(g, v.at("x"), chunk(g, mod, 0, 3), chunk(g, mod, 1, 3));
        ggml_tensor* q = apply_rope(g, projections.q(g, n), v.at("rope"), heads);
        ggml_tensor* k = apply_rope(g, projections.k(g, n), v.at("rope"), heads);
        v["attended"] = attention(g, q, k, projections.v(g, n), heads);
        v["mlp"] = ggml_swiglu(g.context, mlp(g, n));
    }
};

struct SingleOut {
    Linear linear2;

    SingleOut(const Scope& s, int64_t width) : linear2(s / "linear2", width + s.side("mlp.weight", 0) / 2, width) {}

    void operator()(Graph& g, Values& v) const {
        ggml_context* c = g.context;
        ggml_tensor* both = ggml_concat(c, v.at("attended"), v.at("mlp"), 0);
        v["x"] = ggml_add(c, v.at("x"), ggml_mul(c, linear2(g, both), chunk(g, v.at("mod"), 2, 3)));
        v.erase("attended");
        v.erase("mlp");
    }
};

}  // namespace

Flux2::Flux2(const ModelFiles& files) : Denoiser(files, "flux_2") {
    const Scope s = root();
    const Json& config = files.config()["transformer"];
    width_ = s.side("img_in.weight", 0);
    channels_ = s.side("img_in.weight", 1);
    context_width_ = s.side("txt_in.weight", 1);
    sinusoids_ = s.side("time_in.in_layer.weight", 1);
    head_ = s.side("double_blocks.0.img_attn.norm.query_norm.weight", 0);
    guided_ = s.has("guidance_in");
    theta_ = config.number_or("rope_theta", 2000);
    axes_ = config.integers("axes_dims_rope");
    if (axes_.empty()) axes_.assign(4, static_cast<int>(head_ / 4));
    if (!splits_head(axes_, head_, 4) || width_ % head_ != 0)
        fail(SDCPP_UNSUPPORTED_MODEL, "a FLUX.2 transformer with a width of ", width_, " in heads of ", head_,
             ": \"axes_dims_rope\" in its config must be four even numbers that add up to a head");

    stage("embedders", [&] {
        struct Embedders {
            FluxEmbedding time;
            std::optional<FluxEmbedding> guidance;
        };
        const auto made =
            std::make_shared<Embedders>(Embedders{FluxEmbedding(s / "time_in", sinusoids_, width_), std::nullopt});
        if (guided_) made->guidance.emplace(s / "guidance_in", sinusoids_, width_);
        return [made](Graph& g, Values& v) {
            ggml_tensor* vec = made->time(g, v.at("time"));
            if (made->guidance) vec = ggml_add(g.context, vec, (*made->guidance)(g, v.at("guidance")));
            v["vec"] = ggml_silu(g.context, vec);
        };
    });
    const auto modulation = [&](const std::string& name, const std::string& value, int64_t parts) {
        stage(name, [&] {
            return [lin = Linear(s / name / "lin", width_, parts * width_), value](Graph& g, Values& v) {
                v[value] = lin(g, v.at("vec"));
            };
        });
    };
    modulation("double_stream_modulation_img", "img_mod", 6);
    modulation("double_stream_modulation_txt", "txt_mod", 6);
    modulation("single_stream_modulation", "mod", 3);
    for (const Stage& made : stages()) modulated_by_.push_back(made.name);
    stage("img_in", [&] {
        return [in = Linear(s / "img_in", channels_, width_, WeightKind::edge)](Graph& g, Values& v) {
            v["x"] = in(g, v.at("x"));
        };
    });
    stage("txt_in", [&] {
        return [in = Linear(s / "txt_in", context_width_, width_, WeightKind::edge)](Graph& g, Values& v) {
            v["context"] = in(g, v.at("context"));
        };
    });
    for (int i = 0; i < s.count("double_blocks"); ++i) {
        const Scope own = s / "double_blocks" / i;
        block(
            "double_blocks." + std::to_string(i), [&] { return DoubleAttention(own, width_, head_); },
            [&] { return DoubleFeedForward(own, width_); });
    }
    stage("join",
          [] { return [](Graph& g, Values& v) { v["x"] = ggml_concat(g.context, v.at("context"), v.at("x"), 1); }; });
    for (int i = 0; i < s.count("single_blocks"); ++i) {
        const Scope own = s / "single_blocks" / i;
        block(
            "single_blocks." + std::to_string(i), [&] { return SingleIn(own, width_, head_); },
            [&] { return SingleOut(own, width_); });
    }
    stage("final_layer", [&] {
        const Scope f = s / "final_layer";
        return [shift = Linear(f / "shift", width_, width_, WeightKind::edge),
                scale = Linear(f / "scale", width_, width_, WeightKind::edge),
                linear = Linear(f / "linear", width_, channels_, WeightKind::edge)](Graph& g, Values& v) {
            ggml_tensor *vec = v.at("vec"), *x = v.at("x");
            const int64_t text = v.at("context")->ne[1];
            x = tokens_of(g, x, text, x->ne[1] - text);
            v["x"] = linear(g, modulated_norm(g, x, chunk(g, shift(g, vec), 0, 1), chunk(g, scale(g, vec), 0, 1)));
        };
    });
}

std::vector<Array> Flux2::inputs(const Noisy& noisy) const {
    Array context = joined(noisy.conditionings, "context");
    const int64_t text = context.shape[1];
    const auto places = [&](const PictureSizes& sizes) -> std::vector<Array> {
        const auto count = static_cast<int64_t>(sizes.pictures.size());
        int64_t rows = 1, columns = 1;
        for (const LatentShape& shape : sizes.pictures) {
            rows = std::max(rows, shape.height);
            columns = std::max(columns, shape.width);
        }
        const RopeTable table(axes_, theta_, {(count - 1) * between_pictures + 1, rows, columns, text});
        std::vector<float> rope;
        for (int64_t n = 0; n < noisy.rows(); ++n) {
            for (int64_t t = 0; t < text; ++t) table.append(rope, std::array<int64_t, 4>{0, 0, 0, t});
            for (int64_t number = 0; number < count; ++number) {
                const LatentShape& shape = sizes.pictures[static_cast<size_t>(number)];
                for (int64_t t = 0; t < shape.height * shape.width; ++t)
                    table.append(
                        rope, std::array<int64_t, 4>{number * between_pictures, t / shape.width, t % shape.width, 0});
            }
        }
        const int64_t tokens = static_cast<int64_t>(rope.size()) / (2 * head_ * noisy.rows());
        return {Array::of("rope", {noisy.rows(), tokens, 2 * head_}, std::move(rope))};
    };
    const Array& rope = rope_.of(PictureSizes::of(noisy, text), places).front();
    std::vector<Array> out = {patches_with_references(noisy, 1, PatchOrder::channel_first),
                              Array::of("time", {noisy.rows(), sinusoids_}, sinusoids(noisy.timesteps, sinusoids_)),
                              std::move(context), rope};
    if (guided_) out.push_back(guidance_sinusoids(noisy, sinusoids_));
    return out;
}

std::vector<float> Flux2::prediction(const Array& result, const Noisy& noisy) const {
    return from_patches(result, noisy.shape, 1, PatchOrder::channel_first);
}

}  // namespace sdcpp
