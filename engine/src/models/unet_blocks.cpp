#include "models/unet_blocks.h"

#include <algorithm>
#include <array>
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

// A picture's tokens as one cross-attention takes them.
struct Picture {
    ggml_tensor *key, *value;
};

// Those for one attention; they are not needed any more then.
std::vector<Picture> take_pictures(Values& v, size_t attention) {
    std::vector<Picture> out;
    while (true) {
        const auto key = v.find(picture_key_name(out.size(), attention));
        if (key == v.end()) return out;
        const auto value = v.find(picture_value_name(out.size(), attention));
        out.push_back({key->second, value->second});
        v.erase(key);
        v.erase(value);
    }
}

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

    // Attends to pictures, too: each by keys and values of its own, and all that is found is added (Ye et al. 2023).
    ggml_tensor* operator()(Graph& g, ggml_tensor* x, ggml_tensor* context,
                            const std::vector<Picture>& pictures) const {
        if (pictures.empty()) return (*this)(g, x, context);
        ggml_tensor* q = to_q(g, x);
        ggml_tensor* found = attention(g, q, to_k(g, context), to_v(g, context), heads);
        for (const auto& [key, value] : pictures)
            found = ggml_add(g.context, found, attention(g, q, key, value, heads));
        return to_out(g, found);
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

    ggml_tensor* operator()(Graph& g, ggml_tensor* x, ggml_tensor* context,
                            const std::vector<Picture>& pictures) const {
        ggml_context* c = g.context;
        ggml_tensor* n = norm1(g, x);
        x = ggml_add(c, x, attn1(g, n, n));
        return ggml_add(c, x, attn2(g, norm2(g, x), context, pictures));
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

template <typename Layer>
Run on_x(Layer layer) {
    return [layer](Graph& g, Values& v) { v["x"] = layer(g, v.at("x")); };
}

// Heads are not in the tensors. Stable Diffusion 1.x has eight everywhere, its successors heads of 64.
int default_heads(int64_t width, int64_t context, bool xl) {
    return xl || context >= 1024 ? static_cast<int>(std::max<int64_t>(1, width / 64)) : 8;
}

constexpr std::string_view residual = "residual.";
constexpr std::array<std::string_view, 4> shared_inputs = {"x", "time", "context", "y"};

}  // namespace

std::string skip_name(size_t number) { return "skip." + std::to_string(number); }

std::string residual_name(size_t number) { return std::string(residual) + std::to_string(number); }

std::string picture_key_name(size_t picture, size_t attention) {
    return "picture." + std::to_string(picture) + ".key." + std::to_string(attention);
}

std::string picture_value_name(size_t picture, size_t attention) {
    return "picture." + std::to_string(picture) + ".value." + std::to_string(attention);
}

ggml_tensor* sum_of(Graph& g, ggml_tensor* x, ggml_tensor* more) {
    bool fits = true;  // ggml would repeat a part, too
    for (int d = 0; d < GGML_MAX_DIMS; ++d) fits = fits && (more->ne[d] == 1 || more->ne[d] == x->ne[d]);
    if (!fits)
        fail(SDCPP_UNSUPPORTED_MODEL, "a ControlNet or T2I-Adapter gives ", more->ne[2], " x ", more->ne[1], " x ",
             more->ne[0], " values where the model has ", x->ne[2], " x ", x->ne[1], " x ", x->ne[0],
             "; it was made for another model");
    return ggml_add(g.context, x, more);
}

ggml_tensor* with_value(Graph& g, Values& v, ggml_tensor* x, const std::string& name) {
    const auto found = v.find(name);
    if (found == v.end()) return x;
    x = sum_of(g, x, found->second);
    v.erase(found);
    return x;
}

UNetShape::UNetShape(const Scope& s, const Json& config)
    : groups(per_level(config.integers("norm_num_groups"), 0, 32)),
      heads(config.integers("attention_head_dim")),  // diffusers' name; for this family it counts heads
      model_channels(s.side("input_blocks.0.0.weight", 0)),
      in_channels(s.side("input_blocks.0.0.weight", 1)),
      context_width(first_context_width(s)),
      emb(s.side("time_embed.0.weight", 0)),
      added(s.has("label_emb") ? s.side("label_emb.0.0.weight", 1) : 0),
      xl(s.has("label_emb")) {}

// Values of a network that stands in front of another one are under names of its own, except for the inputs that both
// take and the residuals.
Run UNetBlocks::own_values(Run run) const {
    if (in_front_.empty()) return run;
    return [run = std::move(run), in_front = in_front_](Graph& g, Values& v) {
        Values own;
        for (const std::string_view name : shared_inputs)
            if (const auto found = v.find(std::string(name)); found != v.end()) own[found->first] = found->second;
        for (const auto& [name, tensor] : v) {
            if (name.starts_with(residual)) own[name] = tensor;
            if (name.starts_with(in_front)) own[name.substr(in_front.size())] = tensor;
        }
        const Values before = own;
        run(g, own);
        for (const auto& [name, tensor] : own) {
            const auto known = before.find(name);
            if (known == before.end() || known->second != tensor)
                v[name.starts_with(residual) ? name : in_front + name] = tensor;
        }
        for (const auto& [name, tensor] : before)
            if (!own.contains(name)) v.erase(in_front + name);
    };
}

void UNetBlocks::stage(const std::string& name, const std::function<Run()>& make, bool same_block) {
    declaration_.stage(in_front_ + name, [&] { return own_values(make()); }, same_block);
}

void UNetBlocks::time_embedding() {
    stage("time_embed", [&] {
        return [mlp = Embedding(scope_ / "time_embed", shape_.model_channels, shape_.emb)](Graph& g, Values& v) {
            v["emb"] = mlp(g, v.at("time"));
        };
    });
}

void UNetBlocks::added_conditions() {
    stage("label_emb", [&] {
        return [mlp = Embedding(scope_ / "label_emb.0", shape_.added, shape_.emb)](Graph& g, Values& v) {
            v["emb"] = ggml_add(g.context, v.at("emb"), mlp(g, v.at("y")));
        };
    });
}

void UNetBlocks::first_convolution(const std::function<Run()>& then) {
    width_ = shape_.model_channels;
    part([this] { return on_x(Conv2d(scope_ / "input_blocks.0.0", shape_.in_channels, shape_.model_channels)); });
    if (then) part(then);
    end_entry("input_blocks.0");
}

void UNetBlocks::input_blocks(const AfterEntry& then) {
    for (int i = 1; i < scope_.count("input_blocks"); ++i) {
        const Scope b = scope_ / "input_blocks" / i;
        if (b.has("0.op")) {
            part([this, b] { return on_x(Conv2d(b / "0.op", width_, width_, 3, 2, 1)); });
            ++level_;
        } else {
            resnet(b / 0);
            if (b.has("1")) transformer(b / 1);
        }
        part([this, then, i] { return then(static_cast<size_t>(i), width_); });
        end_entry("input_blocks." + std::to_string(i));
    }
}

void UNetBlocks::middle_block(const std::function<Run(int64_t)>& then) {
    const Scope middle = scope_ / "middle_block";  // distilled models have less of it
    if (middle.has("0")) resnet(middle / 0);
    if (middle.has("1")) transformer(middle / 1);
    if (middle.has("2")) resnet(middle / 2);
    if (then) part([this, then] { return then(width_); });
    end_entry("middle_block");
}

void UNetBlocks::resnet(const Scope& r, int64_t more_channels) {
    part(
        [this, r, more_channels] {
            const int64_t in = width_ + more_channels;
            width_ = r.side("in_layers.2.weight", 0);
            return ResBlockIn(r, in, width_, shape_.groups);
        },
        more_channels == 0);
    part([this, r] { return ResBlockOut(r, width_, shape_.emb, shape_.groups); }, true);
}

// Two stages for each of its blocks; the first goes with the layers before, the last with the layers after.
void UNetBlocks::transformer(const Scope& t) {
    part(
        [this, t] {
            return
                [open = Opening(t, width_, shape_.groups)](Graph& g, Values& v) { v["tokens"] = open(g, v.at("x")); };
        },
        true);
    for (int i = 0; i < t.count("transformer_blocks"); ++i) {
        const Scope block = t / "transformer_blocks" / i;
        part(
            [this, t, block] {
                const int otherwise = default_heads(width_, shape_.context_width, shape_.xl);
                const int count = per_level(shape_.heads, level_, otherwise);
                if (count < 1 || width_ % count != 0)
                    fail(SDCPP_UNSUPPORTED_MODEL, t.name(), ": width ", width_, " cannot be split into ", count,
                         " heads; give the right \"attention_head_dim\" in the model's config");
                const size_t number = attentions_.size();
                attentions_.push_back(width_);
                return
                    [number, attentions = Attentions(block, width_, shape_.context_width, count)](Graph& g, Values& v) {
                        v["tokens"] = attentions(g, v.at("tokens"), v.at("context"), take_pictures(v, number));
                    };
            },
            i > 0);
        part(
            [this, block] {
                return [feed_forward = FeedForward(block, width_)](Graph& g, Values& v) {
                    v["tokens"] = feed_forward(g, v.at("tokens"));
                };
            },
            true);
    }
    part([this, t] {
        return [proj_out = Linear(t / "proj_out", width_, width_)](Graph& g, Values& v) {
            ggml_tensor* x = v.at("x");
            ggml_tensor* back = from_tokens(g, proj_out(g, v.at("tokens")), x->ne[0], x->ne[1]);
            v["x"] = ggml_add(g.context, x, back);
            v.erase("tokens");
        };
    });
}

void UNetBlocks::upsampling(const Scope& scope) {
    part([this, scope] { return on_x(Upsampling(scope, width_)); }, true);
}

void UNetBlocks::part(std::function<Run()> make, bool begins_stage) {
    parts_.push_back({std::move(make), begins_stage});
}

void UNetBlocks::end_entry(const std::string& name) {
    for (size_t first = 0, number = 0; first < parts_.size(); ++number) {
        size_t last = first + 1;
        while (last < parts_.size() && !parts_[last].begins_stage) ++last;
        stage(
            number == 0 ? name : name + "." + std::to_string(number),
            [&]() -> Run {
                std::vector<Run> runs;
                for (size_t i = first; i < last; ++i) runs.push_back(parts_[i].make());
                return [runs](Graph& g, Values& v) {
                    for (const Run& run : runs) run(g, v);
                };
            },
            number > 0);
        first = last;
    }
    parts_.clear();
}

}  // namespace sdcpp
