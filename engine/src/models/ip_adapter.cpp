#include "models/ip_adapter.h"

#include "base/error.h"
#include "nn/layers.h"

namespace sdcpp {
namespace {

constexpr int64_t resampler_head = 64;

// Learned tokens that attend to the picture's and to themselves (Alayrac et al. 2022).
struct PerceiverAttention {
    LayerNorm norm1, norm2;
    Linear to_q, to_k, to_v, to_out;
    int heads;

    PerceiverAttention(const Scope& s, int64_t width, int64_t inner)
        : norm1(s / "norm1", width),
          norm2(s / "norm2", width),
          to_q(s / "to_q", width, inner),
          to_k(s / "to_k", width, inner),
          to_v(s / "to_v", width, inner),
          to_out(s / "to_out", inner, width),
          heads(static_cast<int>(inner / resampler_head)) {}

    ggml_tensor* operator()(Graph& g, ggml_tensor* x, ggml_tensor* tokens) const {
        ggml_tensor* own = norm2(g, tokens);
        ggml_tensor* all = ggml_concat(g.context, norm1(g, x), own, 1);
        ggml_tensor* seen = attention(g, to_q(g, own), to_k(g, all), to_v(g, all), heads);
        return ggml_add(g.context, tokens, to_out(g, seen));
    }
};

struct ResamplerFeedForward {
    LayerNorm norm;
    Linear in, out;

    ResamplerFeedForward(const Scope& s, int64_t width)
        : norm(s / 0, width), in(s / 1, width, s.side("1.weight", 0)), out(s / 3, in.out(), width) {}

    ggml_tensor* operator()(Graph& g, ggml_tensor* tokens) const {
        return ggml_add(g.context, tokens, out(g, ggml_gelu_erf(g.context, in(g, norm(g, tokens)))));
    }
};

}  // namespace

IpAdapter::IpAdapter(const ModelFiles& files) : Network(files, "ipadapter") {
    const Scope s = root(), image = s / "image_proj";
    if (image.has("latents")) {
        kind_ = Kind::plus;
        declare_plus(image);
    } else if (image.has("proj.3")) {
        kind_ = Kind::full;
        declare_full(image);
    } else {
        declare_base(image);
    }
    const int count = s.count("attentions");
    if (count == 0) fail(SDCPP_MISSING_PART, "the IP-Adapter has no keys and values (ip_adapter.1.to_k_ip.weight)");
    for (int i = 0; i < count; ++i) {
        const Scope here = s / "attentions" / i;
        const int64_t width = here.side("to_k_ip.weight", 0);
        attentions_.push_back(width);
        stage(here.name(), [&] {
            const auto number = static_cast<size_t>(i);
            return [key = key_name(number), value = value_name(number),
                    to_k_ip = Linear(here / "to_k_ip", context_width_, width),
                    to_v_ip = Linear(here / "to_v_ip", context_width_, width)](Graph& g, Values& v) {
                v[key] = to_k_ip(g, v.at("x"));
                v[value] = to_v_ip(g, v.at("x"));
            };
        });
    }
}

void IpAdapter::declare_base(const Scope& s) {
    context_width_ = s.side("norm.weight", 0);
    input_width_ = s.side("proj.weight", 1);
    const int64_t made = s.side("proj.weight", 0);
    if (made % context_width_ != 0)
        fail(SDCPP_UNSUPPORTED_MODEL, "an IP-Adapter that makes ", made, " values, which are no whole tokens of ",
             context_width_);
    tokens_ = made / context_width_;
    stage("image_proj", [&] {
        return [tokens = tokens_, width = context_width_, proj = Linear(s / "proj", input_width_, made),
                norm = LayerNorm(s / "norm", context_width_)](Graph& g, Values& v) {
            ggml_tensor* made_of_it = proj(g, v.at("x"));
            v["x"] = norm(g, ggml_reshape_3d(g.context, made_of_it, width, tokens, made_of_it->ne[2]));
        };
    });
}

void IpAdapter::declare_plus(const Scope& s) {
    const int64_t width = s.side("latents", 2);
    tokens_ = s.side("latents", 1);
    input_width_ = s.side("proj_in.weight", 1);
    context_width_ = s.side("proj_out.weight", 0);
    stage("proj_in", [&] {
        const Weight* latents = s.weight("latents", WeightKind::vector, {1, tokens_, width});
        return [latents, proj_in = Linear(s / "proj_in", input_width_, width)](Graph& g, Values& v) {
            ggml_tensor* own = latents->tensor;
            v["x"] = proj_in(g, v.at("x"));
            v["tokens"] = ggml_repeat_4d(g.context, own, own->ne[0], own->ne[1], v.at("x")->ne[2], 1);
        };
    });
    for (int i = 0; i < s.count("layers"); ++i) {
        const Scope layer = s / "layers" / i;
        const int64_t inner = (layer / 0).side("to_q.weight", 0);
        if (inner % resampler_head != 0)
            fail(SDCPP_UNSUPPORTED_MODEL, layer.name(), ": width ", inner, " is not whole heads of ", resampler_head);
        const auto look = [&] {
            return [attend = PerceiverAttention(layer / 0, width, inner)](Graph& g, Values& v) {
                v["tokens"] = attend(g, v.at("x"), v.at("tokens"));
            };
        };
        const auto think = [&] {
            return [feed_forward = ResamplerFeedForward(layer / 1, width)](Graph& g, Values& v) {
                v["tokens"] = feed_forward(g, v.at("tokens"));
            };
        };
        block(layer.name(), look, think);
    }
    stage("proj_out", [&] {
        return [proj_out = Linear(s / "proj_out", width, context_width_),
                norm_out = LayerNorm(s / "norm_out", context_width_)](Graph& g, Values& v) {
            v["x"] = norm_out(g, proj_out(g, v.at("tokens")));
            v.erase("tokens");
        };
    });
}

void IpAdapter::declare_full(const Scope& s) {
    input_width_ = s.side("proj.0.weight", 1);
    context_width_ = s.side("proj.2.weight", 0);
    stage("image_proj", [&] {
        const Scope proj = s / "proj";
        const int64_t inner = proj.side("0.weight", 0);
        return [in = Linear(proj / 0, input_width_, inner), out = Linear(proj / 2, inner, context_width_),
                norm = LayerNorm(proj / 3, context_width_)](Graph& g, Values& v) {
            v["x"] = norm(g, out(g, ggml_gelu_erf(g.context, in(g, v.at("x")))));
        };
    });
}

Selection IpAdapter::select() const {
    Selection out;
    out.results.clear();
    for (size_t i = 0; i < attentions_.size(); ++i)
        for (std::string name : {key_name(i), value_name(i)}) out.results.push_back(std::move(name));
    return out;
}

}  // namespace sdcpp
