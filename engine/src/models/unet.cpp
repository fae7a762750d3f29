#include "models/unet.h"

#include <algorithm>

#include "base/error.h"
#include "models/unet_blocks.h"
#include "nn/layers.h"

namespace sdcpp {
namespace {

int64_t size_width(const ModelFiles& files) {
    return static_cast<int64_t>(files.config()["unet"].number_or("addition_time_embed_dim", 256));
}

// The width of the pooled text within the added conditions: the text encoder's, else the released models'.
int64_t text_width(const ModelFiles& files) {
    if (const TensorInfo* linear = files.find("clip_g.text_projection.weight")) return linear->shape.front();
    if (const TensorInfo* matrix = files.find("clip_g.text_projection")) return matrix->shape.back();
    return 1280;
}

// Features of T2I-Adapters are added once a level: after its last attention or, in a level without any, at its end,
// which is the convolution that halves the sides. What is left over after all levels is added after the middle.
bool takes_feature(const Scope& s, int entry) {
    const Scope all = s / "input_blocks", here = all / entry;
    const auto halves = [&](int i) { return (all / i).has("0.op"); };
    const auto attends = [&](int i) { return (all / i).has("1"); };
    const bool last = !all.has(std::to_string(entry + 1));
    if (halves(entry)) return entry > 1 && !attends(entry - 1);
    return last || (halves(entry + 1) && attends(entry));
}

}  // namespace

int64_t UNet::sizes_of(const ModelFiles& files) {
    const TensorInfo* in = files.find("unet.label_emb.0.0.weight");
    const int64_t width = size_width(files);
    if (!in || in->shape.size() != 2 || width < 2) return 0;
    return std::max<int64_t>(0, in->shape[1] - text_width(files)) / width;
}

UNet::UNet(const ModelFiles& files) : Denoiser(files, "unet") {
    const Scope s = root();
    UNetBlocks blocks(declaration(), s, UNetShape(s, files.config()["unet"]));
    const UNetShape& shape = blocks.shape();
    model_channels_ = shape.model_channels;
    in_channels_ = shape.in_channels;
    context_width_ = shape.context_width;
    out_channels_ = s.side("out.2.weight", 0);

    blocks.time_embedding();
    if (shape.xl) {
        sizes_ = sizes_of(files);
        size_width_ = size_width(files);
        pooled_width_ = shape.added - sizes_ * size_width_;
        if ((sizes_ != base_sizes && sizes_ != refiner_sizes) || pooled_width_ < 1)
            fail(SDCPP_UNSUPPORTED_MODEL, "a UNet with ", shape.added,
                 " added conditions; known are SDXL's (2816) and its refiner's (2560)");
        blocks.added_conditions();
    }
    blocks.first_convolution(
        [] { return [](Graph& g, Values& v) { v[skip_name(0)] = with_value(g, v, v.at("x"), residual_name(0)); }; });
    skips_ = {model_channels_};
    blocks.input_blocks([&](size_t entry, int64_t width) -> Run {
        skips_.push_back(width);
        if (s.has("input_blocks." + std::to_string(entry) + ".0.op")) multiple_ *= 2;
        std::string feature;
        if (takes_feature(s, static_cast<int>(entry))) {
            feature = feature_name(features_.size());
            features_.push_back({width, multiple_});
        }
        return [entry, feature](Graph& g, Values& v) {
            if (!feature.empty()) v["x"] = with_value(g, v, v.at("x"), feature);
            v[skip_name(entry)] = with_value(g, v, v.at("x"), residual_name(entry));
        };
    });
    before_middle_ = blocks.attentions().size();
    blocks.middle_block([&](int64_t width) -> Run {
        middle_ = width;
        return [last = residual_name(skips_.size()), feature = feature_name(features_.size())](Graph& g, Values& v) {
            v["x"] = with_value(g, v, v.at("x"), feature);
            v["x"] = with_value(g, v, v.at("x"), last);
        };
    });
    before_last_blocks_ = blocks.attentions().size();
    std::vector<int64_t> skips = skips_;
    for (int i = 0; i < s.count("output_blocks"); ++i) {
        const Scope b = s / "output_blocks" / i;
        if (skips.empty()) fail(SDCPP_UNSUPPORTED_MODEL, "the UNet has more output blocks than input blocks");
        blocks.part([skip = skip_name(skips.size() - 1)] {
            return [skip](Graph& g, Values& v) {
                v["x"] = ggml_concat(g.context, v.at("x"), v.at(skip), 2);
                v.erase(skip);
            };
        });
        blocks.resnet(b / 0, skips.back());
        skips.pop_back();
        int layer = 1;
        if (b.has("1.norm")) blocks.transformer(b / layer++);
        const bool ends_level = b.has(std::to_string(layer) + ".conv");
        if (ends_level) blocks.upsampling(b / layer);
        blocks.end_entry("output_blocks." + std::to_string(i));
        if (ends_level) blocks.end_level();
    }
    attentions_ = blocks.attentions();
    if (!skips.empty())
        fail(SDCPP_MISSING_PART, "the UNet has ", skips.size(), " output blocks fewer than input blocks");
    blocks.stage("out", [&]() -> Run {
        return [norm = GroupNorm(s / "out.0", blocks.width(), shape.groups, 1e-5f),
                conv = Conv2d(s / "out.2", blocks.width(), out_channels_)](Graph& g, Values& v) {
            v["x"] = conv(g, norm.silu(g, v.at("x")));
        };
    });
}

std::vector<Denoiser::Taken> UNet::conditioning() const {
    if (sizes_ == 0) return {{"context", context_width_}};
    return {{"context", context_width_}, {"pooled", pooled_width_}};
}

std::vector<float> UNet::sizes(int64_t count, int height, int width, bool negative) {
    const auto h = static_cast<float>(height), w = static_cast<float>(width);
    if (count == base_sizes) return {h, w, 0, 0, h, w};
    return {h, w, 0, 0, negative ? 2.5f : 6.0f};
}

std::vector<Array> UNet::inputs(const Noisy& noisy) const {
    std::vector<Array> out = {
        Array::of("x", {noisy.rows(), in_channels_, noisy.shape.height, noisy.shape.width}, noisy.x),
        Array::of("time", {noisy.rows(), model_channels_}, sinusoids(noisy.timesteps, model_channels_)),
        joined(noisy.conditionings, "context")};
    if (sizes_ == 0) return out;
    std::vector<float> y;
    for (size_t row = 0; row < noisy.conditionings.size(); ++row) {
        const std::vector<float> waves =
            sinusoids(sizes(sizes_, noisy.picture_height, noisy.picture_width, noisy.negative[row]), size_width_);
        const auto pooled = noisy.conditionings[row]->at("pooled").floats();
        y.insert(y.end(), pooled.begin(), pooled.end());
        y.insert(y.end(), waves.begin(), waves.end());
    }
    out.push_back(Array::of("y", {noisy.rows(), pooled_width_ + sizes_ * size_width_}, std::move(y)));
    return out;
}

}  // namespace sdcpp
