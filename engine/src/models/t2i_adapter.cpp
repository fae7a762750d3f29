#include "models/t2i_adapter.h"

#include <optional>

#include "base/error.h"
#include "models/unet.h"
#include "nn/layers.h"

namespace sdcpp {
namespace {

struct AdapterResnet {
    Conv2d block1, block2;

    AdapterResnet(const Scope& s, int64_t width)
        : block1(s / "block1", width, width),
          block2(s / "block2", width, width, static_cast<int>(s.side("block2.weight", 2))) {}

    ggml_tensor* operator()(Graph& g, ggml_tensor* x) const {
        return ggml_add(g.context, block2(g, ggml_relu(g.context, block1(g, x))), x);
    }
};

struct AdapterBlock {
    bool halves;
    std::optional<Conv2d> in_conv, out_conv;
    std::vector<AdapterResnet> resnets;

    AdapterBlock(const Scope& s, int64_t in, bool down) : halves(down) {
        int64_t width = in;
        if (s.has("in_conv")) {
            width = s.side("in_conv.weight", 0);
            in_conv.emplace(s / "in_conv", in, width, static_cast<int>(s.side("in_conv.weight", 2)));
        }
        for (int i = 0; i < s.count("resnets"); ++i) resnets.emplace_back(s / "resnets" / i, width);
        if (s.has("out_conv"))
            out_conv.emplace(s / "out_conv", width, s.side("out_conv.weight", 0),
                             static_cast<int>(s.side("out_conv.weight", 2)));
    }

    ggml_tensor* operator()(Graph& g, ggml_tensor* x) const {
        if (halves) x = ggml_pool_2d(g.context, x, GGML_OP_POOL_AVG, 2, 2, 2, 2, 0, 0);
        if (in_conv) x = (*in_conv)(g, x);
        for (const AdapterResnet& resnet : resnets) x = resnet(g, x);
        return out_conv ? (*out_conv)(g, x) : x;
    }
};

}  // namespace

T2IAdapter::T2IAdapter(const ModelFiles& files) : Network(files, "t2i") {
    const Scope s = root();
    const bool light = !s.has("conv_in");
    const int64_t patch = light ? s.side("body.0.in_conv.weight", 1) : s.side("conv_in.weight", 1);
    for (const int64_t channels : {3, 1})
        for (const int64_t side : {8, 16})
            if (patch == channels * side * side) {
                hint_channels_ = channels;
                factor_ = side;
            }
    if (patch != hint_channels_ * factor_ * factor_)
        fail(SDCPP_UNSUPPORTED_MODEL, "a T2I-Adapter that takes patches of ", patch,
             " values; known are those of 8 or 16 pixels, coloured or grey");
    int64_t width = patch, divisor = factor_;
    if (!light) {
        const int64_t in = std::exchange(width, s.side("conv_in.weight", 0));
        stage("conv_in", [&] {
            return [conv = Conv2d(s / "conv_in", in, width)](Graph& g, Values& v) { v["x"] = conv(g, v.at("x")); };
        });
    }
    for (int i = 0; i < s.count("body"); ++i) {
        const Scope b = s / "body" / i;
        // adapters with patches of 16 pixels halve once, before the third level
        const bool down = factor_ == 16 ? i == 2 : i > 0;
        divisor *= down ? 2 : 1;
        const int64_t in = width;
        for (const char* name : {"in_conv.weight", "out_conv.weight"})
            if (b.has(name)) width = b.side(name, 0);
        const std::string feature = UNet::feature_name(static_cast<size_t>(i));
        stage(b.name(), [&] {
            return [feature, block = AdapterBlock(b, in, down)](Graph& g, Values& v) {
                v["x"] = block(g, v.at("x"));
                v[feature] = v.at("x");
            };
        });
        features_.push_back({width, divisor});
    }
    if (features_.empty()) fail(SDCPP_MISSING_PART, "the T2I-Adapter has no blocks");
}

Selection T2IAdapter::select() const {
    Selection out;
    out.results.clear();
    for (size_t i = 0; i < features_.size(); ++i) out.results.push_back(UNet::feature_name(i));
    return out;
}

}  // namespace sdcpp
