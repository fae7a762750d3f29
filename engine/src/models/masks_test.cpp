// Masks of attention: who sees whom.
#include "models/masks.h"

#include <doctest/doctest.h>

#include <array>

using namespace sdcpp;

namespace {

bool seen(const Array& mask, int64_t row, int64_t query, int64_t key) {
    const int64_t tokens = mask.shape.back();
    const auto* values = static_cast<const ggml_fp16_t*>(mask.data);
    return ggml_fp16_to_fp32(values[(row * tokens + query) * tokens + key]) == 0;
}

}  // namespace

TEST_CASE("padding at the end of a text is seen by none, its own tokens by it and those behind them") {
    constexpr int32_t padding = 9;
    const std::array<int32_t, 8> tokens = {1, 2, 9, 9, 1, 9, 3, 9};
    const Array mask = causal_mask(tokens, 2, padding);
    CHECK(mask.shape == std::vector<int64_t>{2, 1, 4, 4});
    const std::array<int64_t, 2> ends = {2, 3};  // padding within a text counts
    for (int64_t row = 0; row < 2; ++row)
        for (int64_t query = 0; query < 4; ++query)
            for (int64_t key = 0; key < 4; ++key)
                CHECK(seen(mask, row, query, key) == (key <= query && key < ends[static_cast<size_t>(row)]));
    CHECK(causal_mask(std::span(tokens).first(2), 1, padding).shared);
}

TEST_CASE("padding between a text and what follows it is seen by none") {
    const Array mask = padding_mask("mask", {2, 3}, 3, 2);
    CHECK(mask.shape == std::vector<int64_t>{2, 1, 5, 5});
    for (int64_t query = 0; query < 5; ++query)
        for (int64_t key = 0; key < 5; ++key) {
            CHECK(seen(mask, 0, query, key) == (key != 2));
            CHECK(seen(mask, 1, query, key));
        }
}
