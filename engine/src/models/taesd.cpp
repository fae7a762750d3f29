#include "models/taesd.h"

#include <memory>
#include <optional>

#include "nn/layers.h"

namespace sdcpp {
namespace {

// conv, ReLU, conv, ReLU, conv; plus the input; ReLU.
struct Block {
    Conv2d conv0, conv2, conv4;
    std::optional<Conv2d> skip;

    Block(const Scope& s, int64_t in, int64_t out)
        : conv0(s / "conv.0", in, out), conv2(s / "conv.2", out, out), conv4(s / "conv.4", out, out) {
        if (in != out) skip.emplace(s / "skip", in, out, 1);
    }

    ggml_tensor* operator()(Graph& g, ggml_tensor* x) const {
        ggml_context* c = g.context;
        ggml_tensor* h = ggml_relu(c, conv0(g, x));
        h = conv4(g, ggml_relu(c, conv2(g, h)));
        return ggml_relu(c, ggml_add(c, h, skip ? (*skip)(g, x) : x));
    }
};

}  // namespace

// The layers are a plain sequence, with gaps in the numbers for layers without weights; convolutions without bias
// change the size.
Taesd::Taesd(const ModelFiles& files, Side side) : Network(files, "taesd") {
    const bool decoder = side == Side::decoder;
    const Scope s = root() / (decoder ? "decoder" : "encoder");
    int64_t width = s.side("0.weight", 1);
    int last = 0;
    for (int n = 0; n < 100; ++n)
        if (s.has(std::to_string(n))) last = n;

    latent_channels_ = decoder ? width : s.side(std::to_string(last) + ".weight", 0);

    for (int n = 0; n <= last; ++n) {
        const Scope layer = s / n;
        if (layer.has("conv")) {
            stage(layer.name(), [&] {
                const int64_t in = width;
                width = layer.side("conv.0.weight", 0);
                return [block = std::make_shared<Block>(layer, in, width)](Graph& g, Values& v) {
                    v["x"] = (*block)(g, v.at("x"));
                };
            });
        } else if (layer.has("weight")) {
            stage(layer.name(), [&] {
                const int64_t in = width;
                width = layer.side("weight", 0);
                const bool resizes = !layer.has("bias");
                auto conv = std::make_shared<Conv2d>(layer, in, width, 3, resizes && !decoder ? 2 : 1);
                const bool first = n == 0;
                return [=](Graph& g, Values& v) {
                    ggml_tensor* x = v.at("x");
                    if (decoder && first)
                        x = ggml_scale(g.context, ggml_tanh(g.context, ggml_scale(g.context, x, 1.0f / 3)), 3.0f);
                    if (decoder && resizes) x = upsample(g, x);
                    x = (*conv)(g, x);
                    v["x"] = decoder && first ? ggml_relu(g.context, x) : x;
                };
            });
        }
    }
}

}  // namespace sdcpp
