// Changes without factors of low rank: a difference, a whole weight in place of the model's, and IA3's factors (Liu et
// al. 2022).
#include "base/error.h"
#include "weights/adapters/adapter.h"

namespace sdcpp {
namespace {

class Difference : public Adapter {
  public:
    Difference(Factor diff, float scale) : diff_(std::move(diff)), scale_(scale) {}
    void apply(float weight, int64_t first, int64_t count, const std::vector<double>&, float* values) const override {
        const std::vector<float> diff = diff_.rows(first, count);
        for (size_t i = 0; i < diff.size(); ++i) values[i] += weight * scale_ * diff[i];
    }

  private:
    Factor diff_;
    float scale_;
};

class Replacement : public Adapter {
  public:
    explicit Replacement(Factor whole) : whole_(std::move(whole)) {}
    void apply(float weight, int64_t first, int64_t count, const std::vector<double>&, float* values) const override {
        const std::vector<float> whole = whole_.rows(first, count);
        for (size_t i = 0; i < whole.size(); ++i)
            values[i] = weight == 1 ? whole[i] : values[i] + weight * (whole[i] - values[i]);
    }

  private:
    Factor whole_;
};

// A factor for each row, or for each of a row's inputs.
class Scaling : public Adapter {
  public:
    Scaling(Factor factors, bool on_input, int64_t columns)
        : factors_(std::move(factors)), on_input_(on_input), columns_(columns) {}
    void apply(float weight, int64_t first, int64_t count, const std::vector<double>&, float* values) const override {
        const std::vector<float> factors = factors_.values();
        const int64_t area = on_input_ ? columns_ / static_cast<int64_t>(factors.size()) : 1;
        for (int64_t r = 0; r < count; ++r)
            for (int64_t i = 0; i < columns_; ++i)
                values[r * columns_ + i] *= 1 + weight * factors[static_cast<size_t>(on_input_ ? i / area : first + r)];
    }

  private:
    Factor factors_;
    bool on_input_;
    int64_t columns_;
};

std::string text_of(const LayerShape& shape) {
    return std::to_string(shape.rows()) + " x " + std::to_string(shape.columns()) + " values";
}

Factor sized(const Factor& factor, const LayerShape& shape) {
    factor.require(factor.count() == shape.rows() * shape.columns() && factor.rows() == shape.rows(), text_of(shape));
    return factor;
}

}  // namespace

AdapterPtr plain(const AdapterLayer& layer, const LayerShape& shape) {
    if (const Factor* diff = layer.find("diff")) return std::make_shared<Difference>(sized(*diff, shape), 1.0f);
    if (const Factor* diff = layer.find("w_norm")) return std::make_shared<Difference>(sized(*diff, shape), 1.0f);
    if (const Factor* whole = layer.find("set_weight")) return std::make_shared<Replacement>(sized(*whole, shape));
    if (!layer.has("on_input")) return nullptr;
    const Factor& factors = layer.need("weight");
    const bool on_input = layer.on_input;
    const int64_t in = shape.sides.size() > 1 ? shape.sides[1] : 1;
    factors.require(factors.count() == (on_input ? in : shape.rows()),
                    std::to_string(on_input ? in : shape.rows()) + " factors");
    return std::make_shared<Scaling>(factors, on_input, shape.columns());
}

AdapterPtr bias_change(const AdapterLayer& layer, const LayerShape& bias) {
    for (const std::string_view ending : {"diff_b", "b_norm"})
        if (const Factor* diff = layer.find(ending)) return std::make_shared<Difference>(sized(*diff, bias), 1.0f);
    const Factor* up = layer.find("lora_up.bias");
    if (!up) return nullptr;
    return std::make_shared<Difference>(sized(*up, bias), layer.scale(layer.need("lora_down.weight").rows()));
}

}  // namespace sdcpp
