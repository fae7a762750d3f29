#include "models/qwen_image.h"

#include <algorithm>
#include <array>

#include "base/error.h"
#include "models/flux_parts.h"
#include "models/masks.h"
#include "models/patches.h"
#include "models/rope.h"
#include "models/transformer_parts.h"
#include "nn/layers.h"

namespace sdcpp {
namespace {

constexpr double theta = 10000;  // the rotary positions' base

}  // namespace

QwenImage::QwenImage(const ModelFiles& files) : Denoiser(files, "qwen_image") {
    const Scope s = root();
    const Json& config = files.config()["transformer"];
    width_ = s.side("img_in.weight", 0);
    const int64_t patch_width = s.side("img_in.weight", 1);
    channels_ = patch_width / (patch * patch);
    context_width_ = s.side("txt_in.weight", 1);
    sinusoids_ = s.side("time_in.in_layer.weight", 1);
    head_ = s.side("double_blocks.0.img_attn.norm.query_norm.weight", 0);
    axes_ = config.integers("axes_dims_rope");
    if (axes_.empty()) {
        const auto first = static_cast<int>(head_ / 8), each = static_cast<int>(head_ * 7 / 16);
        axes_ = {first, each, each};  // 16, 56 and 56 of the released models' 128
    }
    if (!splits_head(axes_, head_) || width_ % head_ != 0 || patch_width % (patch * patch) != 0)
        fail(SDCPP_UNSUPPORTED_MODEL, "a Qwen-Image transformer with a width of ", width_, " in heads of ", head_,
             ": \"axes_dims_rope\" in its config must be three even numbers that add up to a head");

    stage("time_in", [&] {
        return [time = FluxEmbedding(s / "time_in", sinusoids_, width_)](Graph& g, Values& v) {
            v["vec"] = time(g, v.at("time"));
        };
    });
    stage("img_in", [&] {
        return [in = Linear(s / "img_in", patch_width, width_, WeightKind::edge)](Graph& g, Values& v) {
            v["x"] = in(g, v.at("x"));
        };
    });
    stage("txt_in", [&] {
        return [norm = RmsNorm(s / "txt_norm", context_width_, flux_eps),
                in = Linear(s / "txt_in", context_width_, width_, WeightKind::edge)](Graph& g, Values& v) {
            v["context"] = in(g, norm(g, v.at("context")));
        };
    });
    for (int i = 0; i < s.count("double_blocks"); ++i) {
        const Scope own = s / "double_blocks" / i;
        block(
            "double_blocks." + std::to_string(i), [&] { return JointAttention(own, width_, head_); },
            [&] { return JointFeedForward(own, width_); });
    }
    stage("final_layer", [&] {
        const Scope f = s / "final_layer";
        return [scale_shift = Linear(f / "scale_shift", width_, 2 * width_, WeightKind::edge),
                linear = Linear(f / "linear", width_, patch_width, WeightKind::edge)](Graph& g, Values& v) {
            ggml_tensor* both = scale_shift(g, ggml_silu(g.context, v.at("vec")));
            v["x"] = linear(g, modulated_norm(g, v.at("x"), chunk(g, both, 1, 2), chunk(g, both, 0, 2)));
        };
    });
}

// A picture's places count from its middle. A text's follow those of the larger side, alike on all axes.
std::vector<Array> QwenImage::positions(const PatchSizes& sizes) const {
    const auto [rows, columns, texts] = sizes;
    const auto pictures = static_cast<int64_t>(texts.size()), picture = rows * columns;
    const int64_t longest = *std::max_element(texts.begin(), texts.end());
    const int64_t top = rows - rows / 2, left = columns - columns / 2, first = std::max(rows / 2, columns / 2);
    const int64_t last = first + longest;
    const RopeTable table(axes_, theta, {last, top + last, left + last}, {0, -top, -left});
    std::vector<float> rope;
    for (int64_t n = 0; n < pictures; ++n) {
        for (int64_t t = first; t < last; ++t) table.append(rope, std::array<int64_t, 3>{t, t, t});
        for (int64_t t = 0; t < picture; ++t)
            table.append(rope, std::array<int64_t, 3>{0, t / columns - top, t % columns - left});
    }
    std::vector<Array> out = {Array::of("rope", {pictures, longest + picture, 2 * head_}, std::move(rope))};
    if (std::any_of(texts.begin(), texts.end(), [&](int64_t text) { return text != longest; }))
        out.push_back(padding_mask("mask", texts, longest, picture));
    return out;
}

std::vector<Array> QwenImage::inputs(const Noisy& noisy) const {
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

std::vector<float> QwenImage::prediction(const Array& result, const Noisy& noisy) const {
    return from_patches(result, noisy.shape, patch, PatchOrder::channel_first);
}

}  // namespace sdcpp
