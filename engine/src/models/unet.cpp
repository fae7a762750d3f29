#include "models/unet.h"

#include <algorithm>
#include <functional>
#include <optional>

#include "base/error.h"
#include "nn/layers.h"

namespace sdcpp {
namespace {

// In two halves, which are stages of their own: their convolutions are the largest weights.
struct ResBlockIn {
    GroupNorm in_norm;
    Conv2d in_conv;
    std::optional<Conv2d> skip_connection;

    ResBlockIn(const Scope& s, int64_t in, int64_t out, int groups)
        : in_norm(s / "in_layers.0", in, groups, 1e-5f), in_conv(s / "in_layers.2", in, out) {
        if (s.has("skip_connection")) skip_connection.emplace(s / "skip_connection", in, out, 1);
        if (!skip_connection && in != out) fail(SDCPP_MISSING_PART, "the model lacks ", s.name(), ".skip_connection");
    }

    void operator()(Graph& g, Values& v) const {
        ggml_tensor* x = v.at("x");
        v["h"] = in_conv(g, in_norm.silu(g, x));
        if (skip_connection) v["x"] = (*skip_connection)(g, x);
    }
};

struct ResBlockOut {
    Linear emb_layer;
    GroupNorm out_norm;
    Conv2d out_conv;

    ResBlockOut(const Scope& s, int64_t width, int64_t emb, int groups)
        : emb_layer(s / "emb_layers.1", emb, width),
          out_norm(s / "out_layers.0", width, groups, 1e-5f),
          out_conv(s / "out_layers.3", width, width) {}

    void operator()(Graph& g, Values& v) const {
        ggml_context* c = g.context;
        ggml_tensor* e = emb_layer(g, ggml_silu(c, v.at("emb")));
        ggml_tensor* h = ggml_add(c, v.at("h"), ggml_reshape_4d(c, e, 1, 1, e->ne[0], e->ne[1]));
        v["x"] = ggml_add(c, out_conv(g, out_norm.silu(g, h)), v.at("x"));
        v.erase("h");
    }
};

struct CrossAttention {
    Linear to_q, to_k, to_v, to_out;
    int heads;

    CrossAttention(const Scope& s, int64_t width, int64_t context, int head_count)
        : to_q(s / "to_q", width, width),
          to_k(s / "to_k", context, width),
          to_v(s / "to_v", context, width),
          to_out(s / "to_out.0", width, width),
          heads(head_count) {}

    ggml_tensor* operator()(Graph& g, ggml_tensor* x, ggml_tensor* context) const {
        return to_out(g, attention(g, to_q(g, x), to_k(g, context), to_v(g, context), heads));
    }
};

// A transformer block: attention within the picture and to the text, then the gated layers.
struct Attentions {
    LayerNorm norm1;
    CrossAttention attn1;
    LayerNorm norm2;
    CrossAttention attn2;

    Attentions(const Scope& s, int64_t width, int64_t context, int heads)
        : norm1(s / "norm1", width),
          attn1(s / "attn1", width, width, heads),
          norm2(s / "norm2", width),
          attn2(s / "attn2", width, context, heads) {}

    ggml_tensor* operator()(Graph& g, ggml_tensor* x, ggml_tensor* context) const {
        ggml_context* c = g.context;
        ggml_tensor* n = norm1(g, x);
        x = ggml_add(c, x, attn1(g, n, n));
        return ggml_add(c, x, attn2(g, norm2(g, x), context));
    }
};

struct FeedForward {
    LayerNorm norm3;
    Linear ff_in, ff_out;

    FeedForward(const Scope& s, int64_t width)
        : norm3(s / "norm3", width),
          ff_in(s / "ff.net.0.proj", width, s.side("ff.net.0.proj.weight", 0)),
          ff_out(s / "ff.net.2", ff_in.out() / 2, width) {}

    ggml_tensor* operator()(Graph& g, ggml_tensor* x) const {
        return ggml_add(g.context, x, ff_out(g, geglu(g, ff_in(g, norm3(g, x)))));
    }
};

// The way into a spatial transformer: the picture's places become tokens. proj_out is the way back.
struct Opening {
    GroupNorm norm;
    Linear proj_in;  // stored as a 1x1 convolution or a linear layer: the same thing on tokens

    Opening(const Scope& s, int64_t width, int groups)
        : norm(s / "norm", width, groups, 1e-6f), proj_in(s / "proj_in", width, width) {}

    ggml_tensor* operator()(Graph& g, ggml_tensor* x) const { return proj_in(g, to_tokens(g, norm(g, x))); }
};

struct Upsampling {
    Conv2d conv;

    Upsampling(const Scope& s, int64_t width) : conv(s / "conv", width, width) {}

    ggml_tensor* operator()(Graph& g, ggml_tensor* x) const { return conv(g, upsample(g, x)); }
};

struct Embedding {
    Linear in, out;

    Embedding(const Scope& s, int64_t from, int64_t to)
        : in(s / 0, from, to, WeightKind::edge), out(s / 2, to, to, WeightKind::edge) {}

    ggml_tensor* operator()(Graph& g, ggml_tensor* x) const { return out(g, ggml_silu(g.context, in(g, x))); }
};

int64_t first_context_width(const Scope& s) {
    for (const auto& [name, tensor] : s.files().tensors())
        if (name.starts_with(s.name() + ".") && name.ends_with("attn2.to_k.weight") && tensor.shape.size() == 2)
            return tensor.shape[1];
    fail(SDCPP_MISSING_PART, "the UNet has no cross-attention (attn2.to_k.weight), so it cannot follow a text");
}

using Run = std::function<void(Graph&, Values&)>;

// A part of an entry of input_blocks, middle_block or output_blocks, made when the parts before it are.
struct Step {
    std::function<Run()> make;
    bool begins_stage = false;
};

template <typename Layer>
Run on_x(Layer layer) {
    return [layer](Graph& g, Values& v) { v["x"] = layer(g, v.at("x")); };
}

std::string skip_name(size_t number) { return "skip." + std::to_string(number); }

int64_t size_width(const ModelFiles& files) {
    return static_cast<int64_t>(files.config()["unet"].number_or("addition_time_embed_dim", 256));
}

// The width of the pooled text within the added conditions: the text encoder's, else the released models'.
int64_t text_width(const ModelFiles& files) {
    if (const TensorInfo* linear = files.find("clip_g.text_projection.weight")) return linear->shape.front();
    if (const TensorInfo* matrix = files.find("clip_g.text_projection")) return matrix->shape.back();
    return 1280;
}

// Heads are not in the tensors. Stable Diffusion 1.x has eight everywhere, its successors heads of 64.
int default_heads(int64_t width, int64_t context, bool xl) {
    return xl || context >= 1024 ? static_cast<int>(std::max<int64_t>(1, width / 64)) : 8;
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
    const Json& config = files.config()["unet"];
    const int groups = per_level(config.integers("norm_num_groups"), 0, 32);
    const std::vector<int> heads =
        config.integers("attention_head_dim");  // diffusers' name; for this family it counts heads
    model_channels_ = s.side("input_blocks.0.0.weight", 0);
    in_channels_ = s.side("input_blocks.0.0.weight", 1);
    out_channels_ = s.side("out.2.weight", 0);
    context_width_ = first_context_width(s);
    const int64_t emb = s.side("time_embed.0.weight", 0);
    const bool xl = s.has("label_emb");

    stage("time_embed", [&] {
        return [mlp = Embedding(s / "time_embed", model_channels_, emb)](Graph& g, Values& v) {
            v["emb"] = mlp(g, v.at("time"));
        };
    });
    if (xl) {
        const int64_t added = s.side("label_emb.0.0.weight", 1);
        sizes_ = sizes_of(files);
        size_width_ = size_width(files);
        pooled_width_ = added - sizes_ * size_width_;
        if ((sizes_ != base_sizes && sizes_ != refiner_sizes) || pooled_width_ < 1)
            fail(SDCPP_UNSUPPORTED_MODEL, "a UNet with ", added,
                 " added conditions; known are SDXL's (2816) and its refiner's (2560)");
        stage("label_emb", [&] {
            return [mlp = Embedding(s / "label_emb.0", added, emb)](Graph& g, Values& v) {
                v["emb"] = ggml_add(g.context, v.at("emb"), mlp(g, v.at("y")));
            };
        });
    }
    stage("input_blocks.0", [&] {
        return [conv = Conv2d(s / "input_blocks.0.0", in_channels_, model_channels_)](Graph& g, Values& v) {
            v["x"] = conv(g, v.at("x"));
            v[skip_name(0)] = v.at("x");
        };
    });

    std::vector<int64_t> skips = {model_channels_};
    int64_t width = model_channels_;
    size_t level = 0;
    std::vector<Step> parts;  // the present entry's
    const auto resnet = [&](const Scope& r, int64_t more = 0) {
        parts.push_back({[=, &width] {
                             const int64_t in = width + more;
                             width = r.side("in_layers.2.weight", 0);
                             return ResBlockIn(r, in, width, groups);
                         },
                         more == 0});
        parts.push_back({[=, &width] { return ResBlockOut(r, width, emb, groups); }, true});
    };
    // Two stages for each of its blocks; the first goes with the layers before, the last with the layers after.
    const auto transformer = [&](const Scope& t) {
        parts.push_back({[=, &width] {
                             return [open = Opening(t, width, groups)](Graph& g, Values& v) {
                                 v["tokens"] = open(g, v.at("x"));
                             };
                         },
                         true});
        for (int i = 0; i < t.count("transformer_blocks"); ++i) {
            const Scope block = t / "transformer_blocks" / i;
            parts.push_back(
                {[=, this, &width, &level] {
                     const int count = per_level(heads, level, default_heads(width, context_width_, xl));
                     if (count < 1 || width % count != 0)
                         fail(SDCPP_UNSUPPORTED_MODEL, t.name(), ": width ", width, " cannot be split into ", count,
                              " heads; give the right \"attention_head_dim\" in the model's config");
                     return [attentions = Attentions(block, width, context_width_, count)](Graph& g, Values& v) {
                         v["tokens"] = attentions(g, v.at("tokens"), v.at("context"));
                     };
                 },
                 i > 0});
            parts.push_back({[=, &width] {
                                 return [feed_forward = FeedForward(block, width)](Graph& g, Values& v) {
                                     v["tokens"] = feed_forward(g, v.at("tokens"));
                                 };
                             },
                             true});
        }
        parts.push_back({[=, &width] {
            return [proj_out = Linear(t / "proj_out", width, width)](Graph& g, Values& v) {
                ggml_tensor* x = v.at("x");
                ggml_tensor* back = from_tokens(g, proj_out(g, v.at("tokens")), x->ne[0], x->ne[1]);
                v["x"] = ggml_add(g.context, x, back);
                v.erase("tokens");
            };
        }});
    };
    const auto add_stages = [&](const std::string& name) {
        for (size_t first = 0, number = 0; first < parts.size(); ++number) {
            size_t last = first + 1;
            while (last < parts.size() && !parts[last].begins_stage) ++last;
            stage(
                number == 0 ? name : name + "." + std::to_string(number),
                [&] {
                    std::vector<Run> runs;
                    for (size_t i = first; i < last; ++i) runs.push_back(parts[i].make());
                    return [runs](Graph& g, Values& v) {
                        for (const Run& run : runs) run(g, v);
                    };
                },
                number > 0);
            first = last;
        }
        parts.clear();
    };

    for (int i = 1; i < s.count("input_blocks"); ++i) {
        const Scope b = s / "input_blocks" / i;
        if (b.has("0.op")) {
            parts.push_back({[=, &width] { return on_x(Conv2d(b / "0.op", width, width, 3, 2, 1)); }});
            ++level;
            multiple_ *= 2;
        } else {
            resnet(b / 0);
            if (b.has("1")) transformer(b / 1);
        }
        parts.push_back({[&skips, &width, skip = skip_name(skips.size())] {
            skips.push_back(width);
            return [skip](Graph&, Values& v) { v[skip] = v.at("x"); };
        }});
        add_stages(b.name().substr(s.name().size() + 1));
    }
    const Scope middle = s / "middle_block";  // distilled models have less of it
    if (middle.has("0")) resnet(middle / 0);
    if (middle.has("1")) transformer(middle / 1);
    if (middle.has("2")) resnet(middle / 2);
    add_stages("middle_block");
    for (int i = 0; i < s.count("output_blocks"); ++i) {
        const Scope b = s / "output_blocks" / i;
        if (skips.empty()) fail(SDCPP_UNSUPPORTED_MODEL, "the UNet has more output blocks than input blocks");
        parts.push_back({[skip = skip_name(skips.size() - 1)] {
            return [skip](Graph& g, Values& v) {
                v["x"] = ggml_concat(g.context, v.at("x"), v.at(skip), 2);
                v.erase(skip);
            };
        }});
        resnet(b / 0, skips.back());
        skips.pop_back();
        int layer = 1;
        if (b.has("1.norm")) transformer(b / layer++);
        const bool ends_level = b.has(std::to_string(layer) + ".conv");
        if (ends_level) parts.push_back({[=, &width] { return on_x(Upsampling(b / layer, width)); }, true});
        add_stages(b.name().substr(s.name().size() + 1));
        if (ends_level && level > 0) --level;
    }
    if (!skips.empty())
        fail(SDCPP_MISSING_PART, "the UNet has ", skips.size(), " output blocks fewer than input blocks");
    stage("out", [&] {
        return [norm = GroupNorm(s / "out.0", width, groups, 1e-5f), conv = Conv2d(s / "out.2", width, out_channels_)](
                   Graph& g, Values& v) { v["x"] = conv(g, norm.silu(g, v.at("x"))); };
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
