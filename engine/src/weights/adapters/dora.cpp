// DoRA: a change of the weights' directions, and new lengths of theirs (Liu et al. 2024).
#include <cmath>
#include <limits>

#include "base/error.h"
#include "weights/adapters/adapter.h"

namespace sdcpp {
namespace {

// W + weight * (scale * V / (|V| + eps) - W), with V the weights after the inner change. Lengths are those of rows or,
// in older files, of what one input is multiplied with.
class Decomposed : public Adapter {
  public:
    Decomposed(AdapterPtr inner, Factor scale, bool by_rows, const LayerShape& shape)
        : inner_(std::move(inner)),
          scale_(std::move(scale)),
          by_rows_(by_rows),
          columns_(shape.columns()),
          area_(by_rows ? 1 : shape.columns() / scale_.count()) {}

    int64_t group() const override { return inner_->group(); }
    bool needs_norms() const override { return !by_rows_; }

    void add_norms(int64_t first, int64_t count, float* values, std::vector<double>& norms) const override {
        inner_->apply(1, first, count, {}, values);
        norms.resize(static_cast<size_t>(columns_ / area_));
        for (int64_t i = 0; i < count * columns_; ++i) {
            const double value = static_cast<double>(values[i]);
            norms[static_cast<size_t>(i % columns_ / area_)] += value * value;
        }
    }

    void apply(float weight, int64_t first, int64_t count, const std::vector<double>& norms,
               float* values) const override {
        std::vector<float> turned(values, values + count * columns_);
        inner_->apply(1, first, count, {}, turned.data());
        const std::vector<float> scale = scale_.values();
        constexpr double eps = std::numeric_limits<float>::epsilon();
        const auto factor = [&](size_t number, double squares) {
            return static_cast<float>(static_cast<double>(scale[number]) / (std::sqrt(squares) + eps));
        };
        std::vector<float> factors(by_rows_ ? 1 : scale.size());
        for (size_t i = 0; !by_rows_ && i < factors.size(); ++i) factors[i] = factor(i, norms[i]);
        for (int64_t r = 0; r < count; ++r) {
            float* to = values + r * columns_;
            const float* from = turned.data() + r * columns_;
            if (by_rows_) {
                double squares = 0;
                for (int64_t i = 0; i < columns_; ++i)
                    squares += static_cast<double>(from[i]) * static_cast<double>(from[i]);
                factors[0] = factor(static_cast<size_t>(first + r), squares);
            }
            for (int64_t i = 0; i < columns_; ++i)
                to[i] += weight * (factors[by_rows_ ? 0 : static_cast<size_t>(i / area_)] * from[i] - to[i]);
        }
    }

  private:
    AdapterPtr inner_;
    Factor scale_;
    bool by_rows_;
    int64_t columns_, area_;
};

}  // namespace

AdapterPtr decomposed(const AdapterLayer& layer, const LayerShape& shape, AdapterPtr inner) {
    const Factor& scale = layer.need("dora_scale");
    const int64_t in = shape.sides.size() > 1 ? shape.sides[1] : 1;
    const bool by_rows = scale.rows() == shape.rows() && scale.columns() == 1;
    scale.require(by_rows || scale.count() == in, "one value for each of " + std::to_string(shape.rows()) +
                                                      " outputs or " + std::to_string(in) + " inputs");
    return std::make_shared<Decomposed>(std::move(inner), scale, by_rows, shape);
}

}  // namespace sdcpp
