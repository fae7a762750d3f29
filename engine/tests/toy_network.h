// A network small enough to be checked by hand: each stage multiplies by a number, as a product with a matrix.
#pragma once

#include <algorithm>
#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "nn/network.h"

namespace sdcpp {

// A matrix [width, width] of equal numbers, in memory: vectors of ones become vectors of `value`.
class ToySource : public WeightSource {
  public:
    ToySource(float value, int64_t width) : width_(width) { set(value); }

    DType type() const override { return from_ggml(GGML_TYPE_F32); }
    int64_t count() const override { return width_ * width_; }
    std::span<const std::byte> bytes_as(ggml_type type) const override {
        if (fails || type != GGML_TYPE_F32) return {};
        return std::as_bytes(std::span<const float>(values_));
    }
    void rows(int64_t first, int64_t count, float* out) const override {
        if (fails) fail(SDCPP_BAD_FILE, "a toy that fails");
        std::copy_n(values_.begin() + first, count, out);
    }
    void forget(int64_t, int64_t) const override {}
    bool fits_f16() const override { return false; }
    const MappedFile* file() const override { return nullptr; }
    uint64_t generation() const override { return generation_; }

    void set(float value) {
        values_.assign(static_cast<size_t>(count()), value / static_cast<float>(width_));
        ++generation_;
    }
    bool fails = false;

  private:
    int64_t width_;
    std::vector<float> values_;
    uint64_t generation_ = 0;
};

struct Toy {
    static constexpr int64_t width = 256;
    static constexpr uint64_t weight_bytes = width * width * sizeof(float);

    std::vector<std::shared_ptr<ToySource>> sources;  // one a stage
    std::unique_ptr<Network> network;

    // x [N, width] times each of `values`.
    explicit Toy(const std::vector<float>& values) {
        Declaration declaration;
        for (const float value : values) add(declaration, value);
        finish(std::move(declaration));
    }
    Toy() = default;

    // Declares a stage that multiplies `from` and leaves the product in `to`.
    void add(Declaration& into, float value, const std::string& from = "x", const std::string& to = "x") {
        sources.push_back(std::make_shared<ToySource>(value, width));
        const std::string name = "stages." + std::to_string(sources.size() - 1);
        into.stage(name, [&] {
            const Weight* weight =
                into.weights().add({name, sources.back(), WeightKind::matrix, {width, width}, nullptr});
            return [weight, from, to](Graph& g, Values& v) {
                v[to] = ggml_mul_mat(g.context, weight->tensor, v.at(from));
            };
        });
    }

    void finish(Declaration declaration) {
        struct Rows : Network {
            using Network::Network;
            size_t result_rank() const override { return 2; }
        };
        static const ModelFiles none({}, {});
        network = std::make_unique<Rows>(none, "toy");
        network->declaration() = std::move(declaration);
    }

    static Array ones(int64_t rows = 1) {
        return Array::of("x", {rows, width}, std::vector<float>(static_cast<size_t>(rows * width), 1.0f));
    }
};

}  // namespace sdcpp
