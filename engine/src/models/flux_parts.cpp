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

}  // namespace sdcpp
