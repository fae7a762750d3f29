// OFT and BOFT: rows turned by orthogonal matrices. OFT has one for each block of rows (Qiu et al. 2023). BOFT turns
// blocks of several kinds, one after the other, as a butterfly (Liu et al. 2024, in LyCORIS' form).
#include <algorithm>
#include <cmath>
#include <mutex>

#include "base/error.h"
#include "weights/adapters/adapter.h"

namespace sdcpp {
namespace {

// (I + Q) (I - Q)^-1 of a skew-symmetric Q, in f64: by elimination with pivots, on the transposed equation.
std::vector<float> cayley(const std::vector<double>& q, int64_t n) {
    const auto at = [n](int64_t r, int64_t c) { return static_cast<size_t>(r * n + c); };
    // R (I - Q) = I + Q; transposed, (I + Q) R^T = I - Q
    std::vector<double> left(q.size()), right(q.size());
    for (int64_t r = 0; r < n; ++r)
        for (int64_t c = 0; c < n; ++c) {
            left[at(r, c)] = (r == c ? 1.0 : 0.0) + q[at(r, c)];
            right[at(r, c)] = (r == c ? 1.0 : 0.0) - q[at(r, c)];
        }
    for (int64_t p = 0; p < n; ++p) {
        int64_t best = p;
        for (int64_t r = p + 1; r < n; ++r)
            if (std::abs(left[at(r, p)]) > std::abs(left[at(best, p)])) best = r;
        for (int64_t c = 0; best != p && c < n; ++c) {
            std::swap(left[at(p, c)], left[at(best, c)]);
            std::swap(right[at(p, c)], right[at(best, c)]);
        }
        const double pivot = left[at(p, p)];
        for (int64_t c = 0; c < n; ++c) {
            left[at(p, c)] /= pivot;
            right[at(p, c)] /= pivot;
        }
        for (int64_t r = 0; r < n; ++r) {
            const double factor = left[at(r, p)];
            if (r == p || factor == 0) continue;
            for (int64_t c = 0; c < n; ++c) {
                left[at(r, c)] -= factor * left[at(p, c)];
                right[at(r, c)] -= factor * right[at(p, c)];
            }
        }
    }
    std::vector<float> out(q.size());
    for (int64_t r = 0; r < n; ++r)
        for (int64_t c = 0; c < n; ++c) out[at(c, r)] = static_cast<float>(right[at(r, c)]);
    return out;
}

class Orthogonal : public Adapter {
  public:
    Orthogonal(Factor blocks, Factor rescale, double constraint, bool butterfly, int64_t columns)
        : blocks_(std::move(blocks)),
          rescale_(std::move(rescale)),
          constraint_(constraint),
          butterfly_(butterfly),
          stages_(butterfly ? blocks_.shape()[0] : 1),
          side_(blocks_.shape().back()),
          columns_(columns) {}

    // A butterfly's later stages reach further.
    int64_t group() const override { return side_ << (stages_ - 1); }

    void apply(float weight, int64_t first, int64_t count, const std::vector<double>&, float* values) const override {
        const std::vector<float>& turns = rotations();
        std::vector<float> below(values, values + count * columns_);
        std::vector<float> rescale = rescale_ ? rescale_.rows(first, count) : std::vector<float>();
        const auto blocks = static_cast<int64_t>(turns.size()) / (stages_ * side_ * side_);
        std::vector<float> block(static_cast<size_t>(side_ * columns_)), turned(block.size());
        std::vector<float> matrix(static_cast<size_t>(side_ * side_));
        for (int64_t stage = 0; stage < stages_; ++stage) {
            const int64_t half = (side_ / 2) << stage;  // rows between the halves of a pair
            for (int64_t b = 0; b < count / side_; ++b) {
                const auto row = [&](int64_t i) {
                    const int64_t at = b * side_ + i;
                    return butterfly_ ? at / (2 * half) * (2 * half) + at % 2 * half + at % (2 * half) / 2 : at;
                };
                const float* turn = turns.data() + (stage * blocks + first / side_ + b) * side_ * side_;
                for (int64_t r = 0; r < side_; ++r)
                    for (int64_t c = 0; c < side_; ++c) {
                        const auto at = static_cast<size_t>(r * side_ + c);
                        matrix[at] = butterfly_ ? weight * turn[at] + (r == c ? 1 - weight : 0.0f)
                                                : turn[c * side_ + r];  // transposed
                    }
                for (int64_t i = 0; i < side_; ++i)
                    std::copy_n(values + row(i) * columns_, columns_, block.data() + i * columns_);
                std::fill(turned.begin(), turned.end(), 0.0f);
                add_product(matrix.data(), block.data(), side_, side_, columns_, 1, turned.data());
                for (int64_t i = 0; i < side_; ++i)
                    std::copy_n(turned.data() + i * columns_, columns_, values + row(i) * columns_);
            }
        }
        for (int64_t i = 0; i < count * columns_; ++i) {
            if (!rescale.empty()) values[i] *= rescale[static_cast<size_t>(i / columns_)];
            if (!butterfly_)
                values[i] = below[static_cast<size_t>(i)] + weight * (values[i] - below[static_cast<size_t>(i)]);
        }
    }

  private:
    const std::vector<float>& rotations() const {
        std::call_once(once_, [&] {
            const std::vector<float> given = blocks_.values();
            const int64_t size = side_ * side_;
            std::vector<double> skew(given.size());
            double norm = 0;
            for (size_t at = 0; at < given.size(); ++at) {
                const auto in = static_cast<int64_t>(at) % size;
                const size_t mirrored =
                    at - static_cast<size_t>(in) + static_cast<size_t>(in % side_ * side_ + in / side_);
                skew[at] = static_cast<double>(given[at]) - static_cast<double>(given[mirrored]);
                norm += skew[at] * skew[at];
            }
            norm = std::sqrt(norm) + 1e-8;
            if (constraint_ > 0 && norm > constraint_)
                for (double& value : skew) value *= constraint_ / norm;
            for (size_t at = 0; at < skew.size(); at += static_cast<size_t>(size)) {
                const std::vector<float> one =
                    cayley({skew.begin() + static_cast<std::ptrdiff_t>(at),
                            skew.begin() + static_cast<std::ptrdiff_t>(at + static_cast<size_t>(size))},
                           side_);
                rotations_.insert(rotations_.end(), one.begin(), one.end());
            }
        });
        return rotations_;
    }

    Factor blocks_, rescale_;
    double constraint_;
    bool butterfly_;
    int64_t stages_, side_, columns_;
    mutable std::once_flag once_;
    mutable std::vector<float> rotations_;
};

}  // namespace

AdapterPtr orthogonal(const AdapterLayer& layer, const LayerShape& shape) {
    if (layer.has("oft_diag"))
        fail(SDCPP_UNSUPPORTED_MODEL, layer.file, ": the layer ", layer.name,
             " is an OFT in kohya's older form (oft_diag), which is not supported");
    const Factor* blocks = layer.find("oft_blocks");
    if (!blocks) return nullptr;
    const auto& sides = blocks->shape();
    const bool butterfly = sides.size() == 4;
    const int64_t b = sides.empty() ? 0 : sides.back();
    bool right = (sides.size() == 3 || butterfly) && b > 0 && sides[sides.size() - 2] == b &&
                 sides[sides.size() - 3] * b == shape.rows();
    // each stage's blocks must be whole
    if (right && butterfly)
        right = b % 2 == 0 && sides[0] > 0 && sides[0] < 32 && shape.rows() % (b << (sides[0] - 1)) == 0;
    blocks->require(right, "blocks of the layer's " + std::to_string(shape.rows()) + " rows");
    const Factor* rescale = layer.find("rescale");
    if (rescale) rescale->require(rescale->count() == shape.rows(), std::to_string(shape.rows()) + " values");
    const double constraint = layer.alpha.value_or(0) * static_cast<double>(shape.rows());
    return std::make_shared<Orthogonal>(*blocks, rescale ? *rescale : Factor(), constraint, butterfly, shape.columns());
}

}  // namespace sdcpp
