#include "models/srvgg.h"

#include <memory>

#include "base/error.h"
#include "nn/layer_parts.h"
#include "nn/layers.h"

namespace sdcpp {
namespace {

// x where it is above 0, else x times its channel's slope (He et al. 2015).
struct Prelu {
    const Weight* slope;

    Prelu(const Scope& s, int64_t channels) : slope(s.weight("weight", WeightKind::vector, {channels})) {}

    ggml_tensor* operator()(Graph& g, ggml_tensor* x) const {
        ggml_tensor* above = ggml_relu(g.context, x);
        ggml_tensor* below = ggml_sub(g.context, x, above);
        return ggml_add(g.context, above, ggml_mul(g.context, below, per_channel(g, slope)));
    }
};

}  // namespace

// body.0, body.2 …: convolutions; body.1, body.3 …: their activations.
Srvgg::Srvgg(const ModelFiles& files) : Upscaler(files, "srvgg") {
    const Scope s = root();
    const int last = s.count("body") - 1;
    if (last < 2 || last % 2 != 0) fail(SDCPP_UNSUPPORTED_MODEL, "an upscaler of ", last + 1, " layers in a row");
    const int64_t width = s.side("body.0.weight", 0), out = s.side("body." + std::to_string(last) + ".weight", 0);
    while (scale_ * scale_ * 3 < out && scale_ < 16) ++scale_;
    if (scale_ * scale_ * 3 != out || s.side("body.0.weight", 1) != 3)
        fail(SDCPP_UNSUPPORTED_MODEL, "an upscaler with ", out, " values a pixel; 3 colours are wanted");
    for (int i = 0; i < last; i += 2)
        stage("body." + std::to_string(i), [&] {
            auto conv = std::make_shared<Conv2d>(s / "body" / i, i == 0 ? 3 : width, width);
            return [conv, act = Prelu(s / "body" / (i + 1), width), first = i == 0](Graph& g, Values& v) {
                if (first) v["picture"] = v.at("x");
                v["x"] = act(g, (*conv)(g, v.at("x")));
            };
        });
    stage("body." + std::to_string(last), [&] {
        return [conv = std::make_shared<Conv2d>(s / "body" / last, width, out), scale = scale_](Graph& g, Values& v) {
            ggml_tensor* picture = v.at("picture");
            if (scale > 1) picture = ggml_upscale(g.context, picture, static_cast<int>(scale), GGML_SCALE_MODE_NEAREST);
            v["x"] = ggml_add(g.context, pixel_shuffle(g, (*conv)(g, v.at("x")), scale), picture);
        };
    });
}

}  // namespace sdcpp
