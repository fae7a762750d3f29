#include "models/flux_parts.h"

#include "models/transformer_parts.h"

namespace sdcpp {

Array guidance_sinusoids(const Noisy& noisy, int64_t width) {
    std::vector<float> scales(noisy.find("guidance")->floats().begin(), noisy.find("guidance")->floats().end());
    for (float& scale : scales) scale *= 1000;
    return Array::of("guidance", {noisy.rows(), width}, sinusoids(scales, width));
}

ggml_tensor* modulated_norm(Graph& g, ggml_tensor* x, ggml_tensor* shift, ggml_tensor* scale) {
    ggml_context* c = g.context;
    return ggml_add(c, ggml_mul(c, ggml_norm(c, x, flux_eps), one_plus(g, scale)), shift);
}

ggml_tensor* FluxProjections::normed(Graph& g, ggml_tensor* x, const RmsNorm& norm) const {
    ggml_tensor* split = ggml_reshape_4d(g.context, x, head, x->ne[0] / head, x->ne[1], x->ne[2]);
    return ggml_reshape_3d(g.context, norm(g, split), x->ne[0], x->ne[1], x->ne[2]);
}

JointlyAttended attend_jointly(Graph& g, const FluxProjections& of_text, ggml_tensor* text,
                               const FluxProjections& of_picture, ggml_tensor* picture, ggml_tensor* rope,
                               int64_t heads, ggml_tensor* mask) {
    ggml_context* c = g.context;
    ggml_tensor* q = ggml_concat(c, of_text.q(g, text), of_picture.q(g, picture), 1);
    ggml_tensor* k = ggml_concat(c, of_text.k(g, text), of_picture.k(g, picture), 1);
    ggml_tensor* v = ggml_concat(c, of_text.v(g, text), of_picture.v(g, picture), 1);
    ggml_tensor* attended = attention(g, apply_rope(g, q, rope, heads), apply_rope(g, k, rope, heads), v, heads, mask);
    return {tokens_of(g, attended, 0, text->ne[1]), tokens_of(g, attended, text->ne[1], picture->ne[1])};
}

Modulation::Modulation(const Scope& s, int64_t width, int64_t parts, std::optional<int64_t> slot)
    : width_(width), parts_(parts), slot_(slot) {
    if (!slot) lin_.emplace(s, width, parts * width);
}

ggml_tensor* Modulation::operator()(Graph& g, const Values& v) const {
    if (lin_) return (*lin_)(g, ggml_silu(g.context, v.at("vec")));
    ggml_tensor* slots = v.at("slots");
    return ggml_view_2d(g.context, slots, parts_ * width_, slots->ne[2], slots->nb[2],
                        static_cast<size_t>(*slot_) * slots->nb[1]);
}

void JointAttention::operator()(Graph& g, Values& v) const {
    ggml_context* c = g.context;
    ggml_tensor *img_mod = img.mod(g, v), *txt_mod = txt.mod(g, v);
    v["img_mod"] = img_mod;
    v["txt_mod"] = txt_mod;
    ggml_tensor *x = v.at("x"), *context = v.at("context");
    ggml_tensor* xn = modulated_norm(g, x, chunk(g, img_mod, 0, 6), chunk(g, img_mod, 1, 6));
    ggml_tensor* cn = modulated_norm(g, context, chunk(g, txt_mod, 0, 6), chunk(g, txt_mod, 1, 6));
    const JointlyAttended attended =
        attend_jointly(g, txt.projections, cn, img.projections, xn, v.at("rope"), heads, value_or_null(v, "mask"));
    v["x"] = ggml_add(c, x, ggml_mul(c, img.proj(g, attended.picture), chunk(g, img_mod, 2, 6)));
    v["context"] = ggml_add(c, context, ggml_mul(c, txt.proj(g, attended.text), chunk(g, txt_mod, 2, 6)));
}

ggml_tensor* JointFeedForward::Stream::operator()(Graph& g, ggml_tensor* x, ggml_tensor* mod) const {
    ggml_context* c = g.context;
    ggml_tensor* n = modulated_norm(g, x, chunk(g, mod, 3, 6), chunk(g, mod, 4, 6));
    return ggml_add(c, x, ggml_mul(c, out(g, gelu_tanh(g, in(g, n))), chunk(g, mod, 5, 6)));
}

void JointFeedForward::operator()(Graph& g, Values& v) const {
    v["x"] = img(g, v.at("x"), v.at("img_mod"));
    v["context"] = txt(g, v.at("context"), v.at("txt_mod"));
    v.erase("img_mod");
    v.erase("txt_mod");
}

}  // namespace sdcpp
