#include "models/flux.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <memory>
#include <optional>

#include "base/error.h"
#include "models/flux_parts.h"
#include "models/masks.h"
#include "models/patches.h"
#include "models/rope.h"
#include "models/transformer_parts.h"
#include "nn/layers.h"

namespace sdcpp {
namespace {

// A single block's attention and the first of its feed-forward layers, side by side; the second half joins them.
struct SingleIn {
    Modulation modulation;
    FluxProjections projections;
    Linear mlp;
    int64_t heads;

    SingleIn(const Scope& s, int64_t width, int64_t head, std::optional<int64_t> slot)
        : modulation(s / "modulation.lin", width, 3, slot),
          projections(s, s / "norm", width, head),
          mlp(s / "mlp", width, s.side("mlp.weight", 0)),
          heads(width / head) {}

    void operator()(Graph& g, Values& v) const {
        ggml_tensor* mod = modulation(g, v);
        ggml_tensor* n = modulated_norm(g, v.at("x"), chunk(g, mod, 0, 3), chunk(g, mod, 1, 3));
        ggml_tensor* q = apply_rope(g, projections.q(g, n), v.at("rope"), heads);
        ggml_tensor* k = apply_rope(g, projections.k(g, n), v.at("rope"), heads);
        v["attended"] = attention(g, q, k, projections.v(g, n), heads, value_or_null(v, "mask"));
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
    const bool distilled = s.has("distilled_guidance_layer");
    pooled_width_ = distilled ? 0 : s.side("vector_in.in_layer.weight", 1);
    sinusoids_ =
        distilled ? s.side("distilled_guidance_layer.in_proj.weight", 1) : s.side("time_in.in_layer.weight", 1);
    head_ = s.side("double_blocks.0.img_attn.norm.query_norm.weight", 0);
    guided_ = s.has("guidance_in");
    theta_ = config.number_or("theta", 10000);
    axes_ = config.integers("axes_dims_rope");
    if (axes_.empty()) {
        const auto first = static_cast<int>(head_ / 8), each = static_cast<int>(head_ * 7 / 16);
        axes_ = {first, each, each};  // 16, 56 and 56 of the released models' 128
    }
    if (distilled && sinusoids_ % 4 != 0)
        fail(SDCPP_UNSUPPORTED_MODEL, "the distilled guidance takes ", sinusoids_, " values, no multiple of 4");
    if (!splits_head(axes_, head_) || width_ % head_ != 0 || patch_width % 4 != 0)
        fail(SDCPP_UNSUPPORTED_MODEL, "a FLUX transformer with a width of ", width_, " in heads of ", head_,
             ": \"axes_dims_rope\" in its config must be three even numbers that add up to a head");

    if (distilled)
        slot_stages(s / "distilled_guidance_layer");
    else
        embedder_stage(s);
    for (const Stage& made : stages()) modulated_by_.push_back(made.name);
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
    // slots are for single blocks, for the streams of double ones, and for the last layer
    const int doubles = s.count("double_blocks"), singles = s.count("single_blocks");
    slots_ = 3 * singles + 12 * doubles + 2;
    const auto slot = [&](int64_t number) { return distilled ? std::optional(number) : std::nullopt; };
    for (int i = 0; i < doubles; ++i) {
        const Scope block = s / "double_blocks" / i;
        const std::string name = "double_blocks." + std::to_string(i);
        const std::optional<int64_t> img = slot(3 * singles + 6 * i), txt = slot(3 * singles + 6 * (doubles + i));
        stage(name, [&] { return JointAttention(block, width_, head_, img, txt); });
        stage(name + ".1", [&] { return JointFeedForward(block, width_); }, true);
    }
    stage("join",
          [] { return [](Graph& g, Values& v) { v["x"] = ggml_concat(g.context, v.at("context"), v.at("x"), 1); }; });
    for (int i = 0; i < singles; ++i) {
        const Scope block = s / "single_blocks" / i;
        const std::string name = "single_blocks." + std::to_string(i);
        stage(name, [&] { return SingleIn(block, width_, head_, slot(3 * i)); });
        stage(name + ".1", [&] { return SingleOut(block, width_); }, true);
    }
    stage("final_layer", [&] {
        const Scope f = s / "final_layer";
        return [shift = Modulation(f / "shift", width_, 1, slot(slots_ - 2)),
                scale = Modulation(f / "scale", width_, 1, slot(slots_ - 1)),
                linear = Linear(f / "linear", width_, out_channels_ * patch * patch, WeightKind::edge)](Graph& g,
                                                                                                        Values& v) {
            ggml_tensor* x = v.at("x");
            const int64_t text = v.at("context")->ne[1];
            x = tokens_of(g, x, text, x->ne[1] - text);
            v["x"] = linear(g, modulated_norm(g, x, chunk(g, shift(g, v), 0, 1), chunk(g, scale(g, v), 0, 1)));
        };
    });
}

void Flux::embedder_stage(const Scope& s) {
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
}

// A small network makes the modulations of all blocks from the timestep and the number of the slot.
void Flux::slot_stages(const Scope& s) {
    const int64_t middle = s.side("in_proj.weight", 0);
    stage("distilled_guidance_layer", [&] {
        return [in = Linear(s / "in_proj", sinusoids_, middle, WeightKind::edge)](Graph& g, Values& v) {
            v["slots"] = in(g, v.at("time"));
        };
    });
    for (int i = 0; i < s.count("layers"); ++i) {
        const Scope layer = s / "layers" / i;
        stage("distilled_guidance_layer." + std::to_string(i), [&] {
            return [norm = RmsNorm(s / "norms" / i, middle, flux_eps), in = Linear(layer / "in_layer", middle, middle),
                    out = Linear(layer / "out_layer", middle, middle)](Graph& g, Values& v) {
                ggml_context* c = g.context;
                ggml_tensor* x = v.at("slots");
                v["slots"] = ggml_add(c, x, out(g, ggml_silu(c, in(g, norm(g, x)))));
            };
        });
    }
    stage("distilled_guidance_layer.out", [&] {
        return [out = Linear(s / "out_proj", middle, width_, WeightKind::edge)](Graph& g, Values& v) {
            v["slots"] = out(g, v.at("slots"));
        };
    });
}

// The sinusoids of the timestep, of no guidance, and of each slot's number: [rows, slots, M], a quarter, a quarter and
// a half of M. Numbers of slots are large: what rounding to f32 makes of their angles is part of what the model learnt.
Array Flux::slot_inputs(std::span<const float> timesteps) const {
    const int64_t quarter = sinusoids_ / 4;
    const std::vector<float> time = sinusoids(timesteps, quarter), none = sinusoids(std::vector<float>{0}, quarter);
    std::vector<float> numbers(static_cast<size_t>(2 * quarter * slots_));
    for (int64_t slot = 0; slot < slots_; ++slot)
        for (int64_t i = 0; i < quarter; ++i) {
            const float exponent = -std::log(10000.0f) * static_cast<float>(i) / static_cast<float>(quarter);
            const float angle = static_cast<float>(1000 * slot) * std::exp(exponent);
            float* own = numbers.data() + 2 * quarter * slot + i;
            own[0] = std::cos(angle);
            own[quarter] = std::sin(angle);
        }
    std::vector<float> out;
    for (size_t row = 0; row < timesteps.size(); ++row)
        for (int64_t slot = 0; slot < slots_; ++slot) {
            const auto own = time.begin() + static_cast<std::ptrdiff_t>(row) * quarter;
            const auto number = numbers.begin() + 2 * quarter * slot;
            out.insert(out.end(), own, own + quarter);
            out.insert(out.end(), none.begin(), none.end());
            out.insert(out.end(), number, number + 2 * quarter);
        }
    return Array::of("time", {static_cast<int64_t>(timesteps.size()), slots_, sinusoids_}, std::move(out));
}

std::vector<Array> Flux::inputs(const Noisy& noisy) const {
    Array context = joined(noisy.conditionings, "context");
    const int64_t text = context.shape[1];
    const auto places = [&](const PictureSizes& sizes) -> std::vector<Array> {
        const auto count = static_cast<int64_t>(sizes.pictures.size());
        int64_t most_rows = 1, most_columns = 1;
        for (const LatentShape& shape : sizes.pictures) {
            most_rows = std::max(most_rows, shape.height / patch);
            most_columns = std::max(most_columns, shape.width / patch);
        }
        const RopeTable table(axes_, theta_, {count, most_rows, most_columns});
        std::vector<float> rope;
        for (int64_t n = 0; n < noisy.rows(); ++n) {
            for (int64_t t = 0; t < text; ++t) table.append(rope, std::array<int64_t, 3>{0, 0, 0});
            for (int64_t number = 0; number < count; ++number) {
                const LatentShape& shape = sizes.pictures[static_cast<size_t>(number)];
                const int64_t rows = shape.height / patch, columns = shape.width / patch;
                for (int64_t t = 0; t < rows * columns; ++t)
                    table.append(rope, std::array<int64_t, 3>{number, t / columns, t % columns});
            }
        }
        const int64_t tokens = static_cast<int64_t>(rope.size()) / (2 * head_ * noisy.rows());
        return {Array::of("rope", {noisy.rows(), tokens, 2 * head_}, std::move(rope))};
    };
    const Array& rope = rope_.of(PictureSizes::of(noisy, text), places).front();
    std::vector<Array> out = {
        patches_with_references(noisy, patch, PatchOrder::channel_first),
        pooled_width_ > 0 ? Array::of("time", {noisy.rows(), sinusoids_}, sinusoids(noisy.timesteps, sinusoids_))
                          : slot_inputs(noisy.timesteps),
        std::move(context), rope};
    if (pooled_width_ > 0) out.push_back(joined(noisy.conditionings, "pooled"));
    std::vector<int64_t> texts;
    for (const Conditioning* one : noisy.conditionings) texts.push_back(one->at("context").shape[1]);
    if (std::any_of(texts.begin(), texts.end(), [&](int64_t own) { return own != text; }))
        out.push_back(padding_mask("mask", texts, text, rope.shape[1] - text));
    if (guided_) out.push_back(guidance_sinusoids(noisy, sinusoids_));
    return out;
}

std::vector<float> Flux::prediction(const Array& result, const Noisy& noisy) const {
    LatentShape shape = noisy.shape;
    shape.channels = out_channels_;
    return from_patches(result, shape, patch, PatchOrder::channel_first);
}

}  // namespace sdcpp
