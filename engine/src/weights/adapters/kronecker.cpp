// LoKr: the Kronecker product of two small matrices, each whole or of low rank (Edalati et al. 2022, LyCORIS).
#include "base/error.h"
#include "weights/adapters/adapter.h"

namespace sdcpp {
namespace {

// A matrix [rows, columns], or the product of two that make it.
struct Half {
    Factor whole, left, right, core;  // core: [r, r, height, width]; left is [r, rows] then, right [r, in]

    int64_t rows() const { return whole ? whole.rows() : core ? left.columns() : left.rows(); }
    int64_t columns() const {
        if (whole) return whole.columns();
        return core ? right.columns() * core.shape()[2] * core.shape()[3] : right.columns();
    }
    void require() const {
        if (whole) return;
        if (!core) return right.require(right.rows() == left.columns(), std::to_string(left.columns()) + " rows");
        core.require(core.shape().size() == 4 && core.shape()[0] == left.rows() && core.shape()[1] == right.rows(),
                     "[r, r, height, width]");
    }
    std::vector<float> values() const {
        if (whole) return whole.values();
        const std::vector<float> l = left.values(), r = right.values();
        std::vector<float> out(static_cast<size_t>(rows() * columns()));
        if (!core) {
            add_product(l.data(), r.data(), rows(), left.columns(), columns(), 1, out.data());
            return out;
        }
        const std::vector<float> middle = core.values();
        const int64_t in = right.columns(), area = core.shape()[2] * core.shape()[3], inner = right.rows();
        for (int64_t o = 0; o < rows(); ++o)
            for (int64_t i = 0; i < left.rows(); ++i)
                for (int64_t j = 0; j < inner; ++j) {
                    const float x = l[static_cast<size_t>(i * rows() + o)];
                    const float* from = middle.data() + (i * inner + j) * area;
                    for (int64_t n = 0; n < in; ++n) {
                        float* to = out.data() + (o * in + n) * area;
                        const float y = x * r[static_cast<size_t>(j * in + n)];
                        for (int64_t k = 0; k < area; ++k) to[k] += y * from[k];
                    }
                }
        return out;
    }
};

class Kronecker : public Adapter {
  public:
    Kronecker(Half outer, Half inner, float scale)
        : outer_(std::move(outer)), inner_(std::move(inner)), scale_(scale) {}

    void apply(float weight, int64_t first, int64_t count, const std::vector<double>&, float* values) const override {
        const std::vector<float> outer = outer_.values(), inner = inner_.values();
        const int64_t rows = inner_.rows(), width = inner_.columns(), blocks = outer_.columns();
        for (int64_t r = 0; r < count; ++r) {
            const float* line = inner.data() + (first + r) % rows * width;
            const float* factors = outer.data() + (first + r) / rows * blocks;
            for (int64_t b = 0; b < blocks; ++b) {
                float* to = values + (r * blocks + b) * width;
                const float factor = weight * scale_ * factors[b];
                for (int64_t i = 0; i < width; ++i) to[i] += factor * line[i];
            }
        }
    }

  private:
    Half outer_, inner_;
    float scale_;
};

}  // namespace

AdapterPtr kronecker(const AdapterLayer& layer, const LayerShape& shape) {
    if (!layer.has("lokr_w1") && !layer.has("lokr_w1_a")) return nullptr;
    Half outer, inner;
    std::optional<int64_t> rank;
    if (layer.has("lokr_w1")) {
        outer.whole = layer.need("lokr_w1");
    } else {
        outer.left = layer.need("lokr_w1_a");
        outer.right = layer.need("lokr_w1_b");
        rank = outer.right.rows();
    }
    if (layer.has("lokr_w2")) {
        inner.whole = layer.need("lokr_w2");
    } else {
        inner.left = layer.need("lokr_w2_a");
        inner.right = layer.need("lokr_w2_b");
        if (layer.has("lokr_t2")) inner.core = layer.need("lokr_t2");
        rank = inner.right.rows();
    }
    outer.require();
    inner.require();
    const Factor& told = inner.whole ? inner.whole : inner.right;
    told.require(outer.rows() * inner.rows() == shape.rows() && outer.columns() * inner.columns() == shape.columns() &&
                     shape.rows() > 0,
                 "a part of [" + std::to_string(shape.rows()) + ", " + std::to_string(shape.columns()) + "]");
    return std::make_shared<Kronecker>(std::move(outer), std::move(inner), rank ? layer.scale(*rank) : 1.0f);
}

}  // namespace sdcpp
