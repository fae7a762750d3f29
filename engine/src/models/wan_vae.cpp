#include "models/wan_vae.h"

#include <optional>
#include <utility>

#include "models/vae_parts.h"

namespace sdcpp {
namespace {

struct ResidualBlock {
    ChannelNorm norm1;
    Conv2d conv1;
    ChannelNorm norm2;
    Conv2d conv2;
    std::optional<Conv2d> shortcut;

    ResidualBlock(const Scope& s, int64_t in, int64_t out)
        : norm1(s / "residual.0", in),
          conv1(s / "residual.2", in, out),
          norm2(s / "residual.3", out),
          conv2(s / "residual.6", out, out) {
        if (in != out) shortcut.emplace(s / "shortcut", in, out, 1);
    }

    ggml_tensor* operator()(Graph& g, ggml_tensor* x) const {
        ggml_tensor* h = conv1(g, norm1.silu(g, x));
        h = conv2(g, norm2.silu(g, h));
        return ggml_add(g.context, h, shortcut ? (*shortcut)(g, x) : x);
    }
};

struct AttentionBlock {
    ChannelNorm norm;
    Linear to_q, to_k, to_v, proj;

    AttentionBlock(const Scope& s, int64_t c)
        : norm(s / "norm", c),
          to_q(s / "to_q", c, c),
          to_k(s / "to_k", c, c),
          to_v(s / "to_v", c, c),
          proj(s / "proj", c, c) {}

    ggml_tensor* operator()(Graph& g, ggml_tensor* x) const {
        ggml_tensor* t = to_tokens(g, norm(g, x));
        ggml_tensor* h = proj(g, attention(g, to_q(g, t), to_k(g, t), to_v(g, t), 1));
        return ggml_add(g.context, x, from_tokens(g, h, x->ne[0], x->ne[1]));
    }
};

struct Head {
    ChannelNorm norm;
    Conv2d conv;
    ggml_tensor* operator()(Graph& g, ggml_tensor* x) const { return conv(g, norm.silu(g, x)); }
};

}  // namespace

void WanVaeHalf::residual_stage(const Scope& s, int64_t& width) {
    stage(s.name(), [&] {
        const int64_t in = std::exchange(width, s.side("residual.2.weight", 0));
        return on_x(ResidualBlock(s, in, width));
    });
}

void WanVaeHalf::middle_stages(const Scope& s, int64_t width) {
    stage("middle.0", [&] { return on_x(ResidualBlock(s / "middle.0", width, width)); });
    stage("middle.1", [&] { return on_x(AttentionBlock(s / "middle.1", width)); });
    stage("middle.2", [&] { return on_x(ResidualBlock(s / "middle.2", width, width)); });
}

WanVaeDecoder::WanVaeDecoder(const ModelFiles& files) : WanVaeHalf(files) {
    const Scope root_scope = root(), s = root_scope / "decoder";
    int64_t width = s.side("conv1.weight", 0);
    latent_channels_ = s.side("conv1.weight", 1);

    stage("conv2", [&] { return on_x(Conv2d(root_scope / "conv2", latent_channels_, latent_channels_, 1)); });
    stage("decoder.conv1", [&] { return on_x(Conv2d(s / "conv1", latent_channels_, width)); });
    middle_stages(s, width);
    for (int i = 0; i < s.count("upsamples"); ++i) {
        const Scope layer = s / "upsamples" / i;
        if (!layer.has("resample")) {
            residual_stage(layer, width);
            continue;
        }
        factor_ *= 2;
        stage(layer.name(), [&] {
            const int64_t in = std::exchange(width, layer.side("resample.1.weight", 0));
            return on_x(VaeUpsample{Conv2d(layer / "resample.1", in, width)});
        });
    }
    stage("decoder.head", [&] { return on_x(Head{ChannelNorm(s / "head.0", width), Conv2d(s / "head.2", width, 3)}); });
}

WanVaeEncoder::WanVaeEncoder(const ModelFiles& files) : WanVaeHalf(files) {
    const Scope root_scope = root(), s = root_scope / "encoder";
    int64_t width = s.side("conv1.weight", 0);
    const int64_t out = s.side("head.2.weight", 0);
    latent_channels_ = out / 2;

    stage("encoder.conv1", [&] { return on_x(Conv2d(s / "conv1", 3, width)); });
    for (int i = 0; i < s.count("downsamples"); ++i) {
        const Scope layer = s / "downsamples" / i;
        if (!layer.has("resample")) {
            residual_stage(layer, width);
            continue;
        }
        factor_ *= 2;
        stage(layer.name(), [&] { return on_x(VaeDownsample{Conv2d(layer / "resample.1", width, width, 3, 2, 0)}); });
    }
    middle_stages(s, width);
    stage("encoder.head",
          [&] { return on_x(Head{ChannelNorm(s / "head.0", width), Conv2d(s / "head.2", width, out)}); });
    stage("conv1", [&] { return on_x(Conv2d(root_scope / "conv1", out, out, 1)); });
}

}  // namespace sdcpp
