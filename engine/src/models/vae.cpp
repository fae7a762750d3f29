#include "models/vae.h"

#include <optional>
#include <utility>

#include "models/vae_parts.h"
#include "nn/layer_parts.h"

namespace sdcpp {
namespace {

constexpr float eps = 1e-6f;

struct ResnetBlock {
    GroupNorm norm1;
    Conv2d conv1;
    GroupNorm norm2;
    Conv2d conv2;
    std::optional<Conv2d> nin_shortcut;

    ResnetBlock(const Scope& s, int64_t in, int64_t out, int groups)
        : norm1(s / "norm1", in, groups, eps),
          conv1(s / "conv1", in, out),
          norm2(s / "norm2", out, groups, eps),
          conv2(s / "conv2", out, out) {
        if (in != out) nin_shortcut.emplace(s / "nin_shortcut", in, out, 1);
    }

    ggml_tensor* operator()(Graph& g, ggml_tensor* x) const {
        ggml_tensor* h = conv1(g, norm1.silu(g, x));
        h = conv2(g, norm2.silu(g, h));
        return ggml_add(g.context, h, nin_shortcut ? (*nin_shortcut)(g, x) : x);
    }
};

struct AttnBlock {
    GroupNorm norm;
    Linear q, k, v, proj_out;

    AttnBlock(const Scope& s, int64_t c, int groups)
        : norm(s / "norm", c, groups, eps),
          q(s / "q", c, c),
          k(s / "k", c, c),
          v(s / "v", c, c),
          proj_out(s / "proj_out", c, c) {}

    ggml_tensor* operator()(Graph& g, ggml_tensor* x) const {
        ggml_tensor* t = to_tokens(g, norm(g, x));
        ggml_tensor* h = proj_out(g, attention(g, q(g, t), k(g, t), v(g, t), 1));
        return ggml_add(g.context, x, from_tokens(g, h, x->ne[0], x->ne[1]));
    }
};

struct NormOut {
    GroupNorm norm_out;
    Conv2d conv_out;
    ggml_tensor* operator()(Graph& g, ggml_tensor* x) const { return conv_out(g, norm_out.silu(g, x)); }
};

// [N, 4 C, h, w] to [N, C, 2 h, 2 w]: channels c * 4 + dy * 2 + dx become places.
ggml_tensor* patches_to_places(Graph& g, ggml_tensor* x) {
    ggml_context* c = g.context;
    const int64_t w = x->ne[0], h = x->ne[1], channels = x->ne[2] / 4, n = x->ne[3];
    x = ggml_reshape_4d(c, x, w, h, 2, 2 * channels * n);  // x, y, dx, rest
    x = ggml_reshape_4d(c, ggml_cont(c, ggml_permute(c, x, 1, 2, 0, 3)), 2 * w, h, 2,
                        channels * n);  // row, y, dy, rest
    return ggml_reshape_4d(c, ggml_cont(c, ggml_permute(c, x, 0, 2, 1, 3)), 2 * w, 2 * h, channels, n);
}

ggml_tensor* places_to_patches(Graph& g, ggml_tensor* x) {
    ggml_context* c = g.context;
    const int64_t w = x->ne[0] / 2, h = x->ne[1] / 2, channels = x->ne[2], n = x->ne[3];
    x = ggml_reshape_4d(c, x, 2 * w, 2, h, channels * n);  // row, dy, y, rest
    x = ggml_reshape_4d(c, ggml_cont(c, ggml_permute(c, x, 0, 2, 1, 3)), 2, w, h, 2 * channels * n);  // dx, x, y, rest
    return ggml_reshape_4d(c, ggml_cont(c, ggml_permute(c, x, 2, 0, 1, 3)), w, h, 4 * channels, n);
}

// The statistics that patches are normed by.
struct Statistics {
    const Weight *mean, *variance;
    float least;

    Statistics(const Scope& s, int64_t channels, float smallest)
        : mean(s.weight("running_mean", WeightKind::vector, {channels})),
          variance(s.weight("running_var", WeightKind::vector, {channels})),
          least(smallest) {}

    ggml_tensor* deviation(Graph& g) const {
        ggml_tensor* root = ggml_sqrt(g.context, ggml_scale_bias(g.context, variance->tensor, 1, least));
        return ggml_reshape_4d(g.context, root, 1, 1, root->ne[0], 1);
    }
    ggml_tensor* restored(Graph& g, ggml_tensor* x) const {
        return ggml_add(g.context, ggml_mul(g.context, x, deviation(g)), per_channel(g, mean));
    }
    ggml_tensor* normed(Graph& g, ggml_tensor* x) const {
        return ggml_div(g.context, ggml_sub(g.context, x, per_channel(g, mean)), deviation(g));
    }
};

struct FromPatches {
    Statistics bn;
    ggml_tensor* operator()(Graph& g, ggml_tensor* x) const { return patches_to_places(g, bn.restored(g, x)); }
};

// Means, and log variances behind them, of which the means are normed.
struct ToPatches {
    Statistics bn;
    ggml_tensor* operator()(Graph& g, ggml_tensor* x) const {
        ggml_context* c = g.context;
        const int64_t channels = x->ne[2] / 2;
        const auto half = [&](int64_t number) {
            return ggml_cont(c, ggml_view_4d(c, x, x->ne[0], x->ne[1], channels, x->ne[3], x->nb[1], x->nb[2], x->nb[3],
                                             static_cast<size_t>(number * channels) * x->nb[2]));
        };
        return ggml_concat(c, bn.normed(g, places_to_patches(g, half(0))), places_to_patches(g, half(1)), 2);
    }
};

}  // namespace

VaeHalf::VaeHalf(const ModelFiles& files)
    : Autoencoder(files, "vae"),
      groups_(per_level(files.config()["vae"].integers("norm_num_groups"), 0, 32)),
      batch_norm_eps_(static_cast<float>(files.config()["vae"].number_or("batch_norm_eps", 1e-4))) {}

void VaeHalf::resnet_stage(const Scope& s, int64_t& width) {
    stage(s.name(), [&] {
        const int64_t in = std::exchange(width, s.side("conv1.weight", 0));
        return on_x(ResnetBlock(s, in, width, groups_));
    });
}

void VaeHalf::middle_stages(const Scope& s, int64_t width) {
    stage("mid.block_1", [&] { return on_x(ResnetBlock(s / "mid.block_1", width, width, groups_)); });
    stage("mid.attn_1", [&] { return on_x(AttnBlock(s / "mid.attn_1", width, groups_)); });
    stage("mid.block_2", [&] { return on_x(ResnetBlock(s / "mid.block_2", width, width, groups_)); });
}

VaeDecoder::VaeDecoder(const ModelFiles& files) : VaeHalf(files) {
    const Scope root_scope = root(), s = root_scope / "decoder";
    int64_t width = s.side("conv_in.weight", 0);
    latent_channels_ = s.side("conv_in.weight", 1);

    const int64_t latent = latent_channels_;
    if (root_scope.has("bn")) {
        factor_ = 2;
        latent_channels_ = 4 * latent;
        stage("bn",
              [&] { return on_x(FromPatches{Statistics(root_scope / "bn", latent_channels_, batch_norm_eps_)}); });
    }
    if (root_scope.has("post_quant_conv"))
        stage("post_quant_conv", [&] { return on_x(Conv2d(root_scope / "post_quant_conv", latent, latent, 1)); });
    stage("conv_in", [&] { return on_x(Conv2d(s / "conv_in", latent, width)); });
    middle_stages(s, width);
    for (int level = s.count("up") - 1; level >= 0; --level) {
        const Scope up = s / "up" / level;
        for (int i = 0; i < up.count("block"); ++i) resnet_stage(up / "block" / i, width);
        if (up.has("upsample")) {
            factor_ *= 2;
            stage(up.name() + ".upsample",
                  [&] { return on_x(VaeUpsample{Conv2d(up / "upsample.conv", width, width)}); });
        }
    }
    stage("norm_out", [&] {
        return on_x(NormOut{GroupNorm(s / "norm_out", width, groups_, eps), Conv2d(s / "conv_out", width, 3)});
    });
}

VaeEncoder::VaeEncoder(const ModelFiles& files) : VaeHalf(files) {
    const Scope root_scope = root(), s = root_scope / "encoder";
    int64_t width = s.side("conv_in.weight", 0);
    const int64_t out = s.side("conv_out.weight", 0);
    latent_channels_ = out / 2;

    stage("conv_in", [&] { return on_x(Conv2d(s / "conv_in", 3, width)); });
    for (int level = 0; level < s.count("down"); ++level) {
        const Scope down = s / "down" / level;
        for (int i = 0; i < down.count("block"); ++i) resnet_stage(down / "block" / i, width);
        if (down.has("downsample")) {
            factor_ *= 2;
            stage(down.name() + ".downsample",
                  [&] { return on_x(VaeDownsample{Conv2d(down / "downsample.conv", width, width, 3, 2, 0)}); });
        }
    }
    middle_stages(s, width);
    stage("norm_out", [&] {
        return on_x(NormOut{GroupNorm(s / "norm_out", width, groups_, eps), Conv2d(s / "conv_out", width, out)});
    });
    if (root_scope.has("quant_conv"))
        stage("quant_conv", [&] { return on_x(Conv2d(root_scope / "quant_conv", out, out, 1)); });
    if (root_scope.has("bn")) {
        factor_ *= 2;
        latent_channels_ *= 4;
        stage("bn", [&] { return on_x(ToPatches{Statistics(root_scope / "bn", latent_channels_, batch_norm_eps_)}); });
    }
}

}  // namespace sdcpp
