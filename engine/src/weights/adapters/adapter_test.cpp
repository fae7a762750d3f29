// Products of factors, and sources that adapters change.
#include "weights/adapters/adapter.h"

#include <doctest/doctest.h>

#include <cmath>

#include "weights/adapters/adapted_source.h"

using namespace sdcpp;

namespace {

// Values that count up.
class Counting : public WeightSource {
  public:
    explicit Counting(int64_t count) : count_(count) {}
    DType type() const override { return from_ggml(GGML_TYPE_F32); }
    int64_t count() const override { return count_; }
    std::span<const std::byte> bytes_as(ggml_type) const override { return {}; }
    void rows(int64_t first, int64_t count, float* out) const override {
        for (int64_t i = 0; i < count; ++i) out[i] = static_cast<float>(first + i);
    }
    void forget(int64_t, int64_t) const override {}
    bool fits_f16() const override { return false; }
    const MappedFile* file() const override { return nullptr; }
    uint64_t generation() const override { return 0; }

  private:
    int64_t count_;
};

// Turns the rows of each group round, and adds the number of each.
class Turning : public Adapter {
  public:
    Turning(int64_t group, int64_t columns) : group_(group), columns_(columns) {}
    int64_t group() const override { return group_; }
    void apply(float weight, int64_t first, int64_t count, const std::vector<double>&, float* values) const override {
        CHECK(first % group_ == 0);
        CHECK(count % group_ == 0);
        for (int64_t g = 0; g < count; g += group_)
            for (int64_t r = 0; r < group_ / 2; ++r)
                for (int64_t c = 0; c < columns_; ++c)
                    std::swap(values[(g + r) * columns_ + c], values[(g + group_ - 1 - r) * columns_ + c]);
        for (int64_t i = 0; i < count * columns_; ++i) values[i] += weight * static_cast<float>(first + i / columns_);
    }

  private:
    int64_t group_, columns_;
};

}  // namespace

TEST_CASE("a product of factors is the sum over the rank, whatever the sides are") {
    for (const int64_t rows : {1, 4, 7})
        for (const int64_t columns : {1, 15, 16, 37})
            for (const int64_t rank : {0, 1, 5}) {
                std::vector<float> left(static_cast<size_t>(rows * rank)), right(static_cast<size_t>(rank * columns)),
                    out(static_cast<size_t>(rows * columns), 1.0f);
                for (size_t i = 0; i < left.size(); ++i) left[i] = static_cast<float>(i % 5) - 2;
                for (size_t i = 0; i < right.size(); ++i) right[i] = static_cast<float>(i % 7) - 3;
                add_product(left.data(), right.data(), rows, rank, columns, 0.5f, out.data());
                for (int64_t r = 0; r < rows; ++r)
                    for (int64_t c = 0; c < columns; ++c) {
                        float sum = 0;
                        for (int64_t k = 0; k < rank; ++k)
                            sum +=
                                left[static_cast<size_t>(r * rank + k)] * right[static_cast<size_t>(k * columns + c)];
                        CHECK(out[static_cast<size_t>(r * columns + c)] == 1 + 0.5f * sum);
                    }
            }
}

TEST_CASE("a changed source gives any stretch of values as it gives them all") {
    constexpr int64_t rows = 12, columns = 6;
    const AdaptedSource source(std::make_shared<Counting>(rows * columns), std::make_shared<Turning>(4, columns), 0.5f,
                               columns, 8, 3);
    CHECK(source.generation() == 3);
    CHECK(source.bytes_as(GGML_TYPE_F32).empty());
    std::vector<float> all(rows * columns);
    source.rows(0, rows * columns, all.data());
    CHECK(all[0] == 3 * columns + 0.5f * 8);
    for (int64_t first = 0; first < rows * columns; ++first)
        for (const int64_t count : {1, 3, 6, 24, 30}) {
            if (first + count > rows * columns) continue;
            std::vector<float> part(static_cast<size_t>(count));
            source.rows(first, count, part.data());
            CHECK(std::equal(part.begin(), part.end(), all.begin() + first));
        }
}

TEST_CASE("a scale is alpha over the rank, and 1 without an alpha or with one of 0") {
    AdapterLayer layer;
    layer.name = "layer";
    CHECK(layer.scale(4) == 1);
    layer.alpha = 0;
    CHECK(layer.scale(4) == 1);
    layer.alpha = 2;
    CHECK(layer.scale(4) == 0.5f);
    layer.root_of_rank = true;
    CHECK(layer.scale(4) == 1);
    CHECK_THROWS(layer.scale(0));
}
