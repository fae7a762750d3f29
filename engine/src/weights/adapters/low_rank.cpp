// Changes of low rank: LoRA (Hu et al. 2021), LoCon for convolutions, with a Tucker core between the factors, and LoHa,
// the product of two value by value (FedPara, Hyeon-Woo et al. 2022).
#include <algorithm>

#include "base/error.h"
#include "weights/adapters/adapter.h"

namespace sdcpp {
namespace {

std::string sides(int64_t rows, int64_t columns) {
    return std::string("[").append(std::to_string(rows)).append(", ").append(std::to_string(columns)).append("]");
}

// left [out, r] times right [r, columns].
struct Pair {
    Factor left, right;
    Factor core;               // [r, r, height, width] between them; right is [r, in] then
    bool left_turned = false;  // left is [r, out]

    int64_t rank() const { return right.rows(); }

    void require(const LayerShape& shape) const {
        const int64_t r = rank(), out = shape.rows(), columns = shape.columns();
        if (core) {
            const auto& inner = core.shape();
            const bool four = inner.size() == 4 && inner[2] > 0 && inner[3] > 0 &&
                              (shape.sides.size() != 4 || (inner[2] == shape.sides[2] && inner[3] == shape.sides[3]));
            core.require(four && inner[1] == r && inner[0] == (left_turned ? left.rows() : left.columns()),
                         "[r, r, height, width] of the layer's kernels");
            const int64_t in = columns / (inner[2] * inner[3]);
            right.require(right.columns() == in && in * inner[2] * inner[3] == columns, sides(r, in));
            left.require((left_turned ? left.columns() : left.rows()) == out, sides(out, r));
            return;
        }
        right.require(right.columns() == columns, sides(r, columns));
        left.require(left.rows() == out && left.columns() == r, sides(out, r));
    }

    // Rows [first, first + count) of left.
    std::vector<float> left_rows(int64_t first, int64_t count) const {
        if (!left_turned) return left.rows(first, count);
        const std::vector<float> all = left.values();
        const int64_t r = left.rows(), out = left.columns();
        std::vector<float> turned(static_cast<size_t>(count * r));
        for (int64_t i = 0; i < count; ++i)
            for (int64_t k = 0; k < r; ++k)
                turned[static_cast<size_t>(i * r + k)] = all[static_cast<size_t>(k * out + first + i)];
        return turned;
    }

    // right [r, columns], the core multiplied in.
    std::vector<float> right_all() const {
        std::vector<float> all = right.values();
        if (!core) return all;
        const int64_t r = core.shape()[0], inner = core.shape()[1], area = core.shape()[2] * core.shape()[3];
        const int64_t in = right.columns();
        const std::vector<float> middle = core.values();
        std::vector<float> out(static_cast<size_t>(r * in * area));
        for (int64_t p = 0; p < r; ++p)
            for (int64_t q = 0; q < inner; ++q)
                for (int64_t i = 0; i < in; ++i) {
                    const float x = all[static_cast<size_t>(q * in + i)];
                    const float* from = middle.data() + (p * inner + q) * area;
                    float* to = out.data() + (p * in + i) * area;
                    for (int64_t k = 0; k < area; ++k) to[k] += x * from[k];
                }
        return out;
    }

    void add(int64_t first, int64_t count, int64_t columns, float factor, float* values) const {
        const std::vector<float> l = left_rows(first, count), r = right_all();
        add_product(l.data(), r.data(), count, static_cast<int64_t>(l.size()) / count, columns, factor, values);
    }
};

class LowRank : public Adapter {
  public:
    LowRank(Pair pair, float scale, int64_t columns) : pair_(std::move(pair)), scale_(scale), columns_(columns) {}
    void apply(float weight, int64_t first, int64_t count, const std::vector<double>&, float* values) const override {
        pair_.add(first, count, columns_, weight * scale_, values);
    }

  private:
    Pair pair_;
    float scale_;
    int64_t columns_;
};

class Hadamard : public Adapter {
  public:
    Hadamard(Pair first, Pair second, float scale, int64_t columns)
        : first_(std::move(first)), second_(std::move(second)), scale_(scale), columns_(columns) {}
    void apply(float weight, int64_t first, int64_t count, const std::vector<double>&, float* values) const override {
        const auto size = static_cast<size_t>(count * columns_);
        std::vector<float> one(size), two(size);
        first_.add(first, count, columns_, 1, one.data());
        second_.add(first, count, columns_, 1, two.data());
        const float factor = weight * scale_;
        for (size_t i = 0; i < size; ++i) values[i] += factor * one[i] * two[i];
    }

  private:
    Pair first_, second_;
    float scale_;
    int64_t columns_;
};

}  // namespace

AdapterPtr low_rank(const AdapterLayer& layer, const LayerShape& shape) {
    if (layer.has("lora_down.weight") || layer.has("lora_up.weight")) {
        Pair pair{layer.need("lora_up.weight"), layer.need("lora_down.weight"), {}};
        if (const Factor* core = layer.find("lora_mid.weight")) pair.core = *core;
        const float scale = layer.scale(pair.rank());
        pair.require(shape);
        return std::make_shared<LowRank>(std::move(pair), scale, shape.columns());
    }
    if (!layer.has("hada_w1_a")) return nullptr;
    Pair first{layer.need("hada_w1_a"), layer.need("hada_w1_b"), {}};
    Pair second{layer.need("hada_w2_a"), layer.need("hada_w2_b"), {}};
    if (layer.has("hada_t1")) {
        first.core = layer.need("hada_t1");
        second.core = layer.need("hada_t2");
        first.left_turned = second.left_turned = true;
    }
    const float scale = layer.scale(first.rank());
    first.require(shape);
    second.require(shape);
    return std::make_shared<Hadamard>(std::move(first), std::move(second), scale, shape.columns());
}

}  // namespace sdcpp
