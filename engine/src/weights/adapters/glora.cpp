// GLoRA: the weights times a matrix of low rank, and one of low rank added (Chavan et al. 2023, in LyCORIS' form).
#include "base/error.h"
#include "weights/adapters/adapter.h"

namespace sdcpp {
namespace {

class Glora : public Adapter {
  public:
    // The weights [out, in, area] times left [in, r] times right [r, in]; plus up [out, r] times down [r, columns].
    Factor left, right, up, down;
    float scale = 1;
    int64_t in = 0, area = 1;

    void apply(float weight, int64_t first, int64_t count, const std::vector<double>&, float* values) const override {
        const std::vector<float> l = left.values(), r = right.values(), d = down.values(), u = up.rows(first, count);
        const int64_t rank = right.rows();
        // every tap of a kernel by itself, since the product runs over the inputs
        std::vector<float> taps(static_cast<size_t>(count * in)), middle(static_cast<size_t>(count * rank)),
            changed(taps.size());
        std::vector<float> all(static_cast<size_t>(count * in * area));
        for (int64_t k = 0; k < area; ++k) {
            for (int64_t i = 0; i < count * in; ++i) taps[static_cast<size_t>(i)] = values[i * area + k];
            std::fill(middle.begin(), middle.end(), 0.0f);
            std::fill(changed.begin(), changed.end(), 0.0f);
            add_product(taps.data(), l.data(), count, in, rank, 1, middle.data());
            add_product(middle.data(), r.data(), count, rank, in, 1, changed.data());
            for (int64_t i = 0; i < count * in; ++i)
                all[static_cast<size_t>(i * area + k)] = changed[static_cast<size_t>(i)];
        }
        for (size_t i = 0; i < all.size(); ++i) values[i] += weight * scale * all[i];
        add_product(u.data(), d.data(), count, down.rows(), in * area, weight * scale, values);
    }
};

}  // namespace

AdapterPtr glora(const AdapterLayer& layer, const LayerShape& shape) {
    if (!layer.has("a1.weight")) return nullptr;
    if (layer.has("bm.weight"))
        fail(SDCPP_UNSUPPORTED_MODEL, layer.file, ": the layer ", layer.name,
             " is a GLoRA with a Tucker core, which is not "
             "supported");
    const Factor &a1 = layer.need("a1.weight"), &a2 = layer.need("a2.weight");
    const Factor &b1 = layer.need("b1.weight"), &b2 = layer.need("b2.weight");
    auto out = std::make_shared<Glora>();
    out->in = shape.sides.size() > 1 ? shape.sides[1] : 1;
    out->area = shape.columns() / out->in;
    // older files have the factors in the other order
    const bool older = a1.rows() < a1.columns() && b2.columns() == a1.rows() && b1.rows() == a1.rows();
    out->left = older ? a2 : a1;
    out->right = older ? a1 : a2;
    out->up = older ? b2 : b1;
    out->down = older ? b1 : b2;
    const int64_t rank = out->right.rows(), in = out->in;
    out->scale = layer.scale(rank);
    out->left.require(out->left.rows() == in && out->left.columns() == rank, "[in, r] of the layer");
    out->right.require(out->right.columns() == in, "[r, in] of the layer");
    out->up.require(out->up.rows() == shape.rows() && out->up.columns() == out->down.rows(), "[out, r] of the layer");
    out->down.require(out->down.columns() == shape.columns(), "[r, in] of the layer");
    return out;
}

}  // namespace sdcpp
