#include "models/masks.h"

#include <ggml.h>

#include <algorithm>
#include <limits>

namespace sdcpp {
namespace {

ggml_fp16_t seen() { return ggml_fp32_to_fp16(0); }
ggml_fp16_t hidden() { return ggml_fp32_to_fp16(-std::numeric_limits<float>::infinity()); }

}  // namespace

Array causal_mask(int64_t tokens) {
    std::vector<ggml_fp16_t> mask(static_cast<size_t>(tokens * tokens), seen());
    for (int64_t row = 0; row < tokens; ++row)
        for (int64_t column = row + 1; column < tokens; ++column)
            mask[static_cast<size_t>(row * tokens + column)] = hidden();
    return Array::of("mask", {tokens, tokens}, std::move(mask), true);
}

Array causal_mask(std::span<const int32_t> tokens, int64_t rows, int32_t padding) {
    const auto length = static_cast<int64_t>(tokens.size()) / rows;
    std::vector<int64_t> seen_of;  // a row's tokens before the padding
    for (int64_t row = 0; row < rows; ++row) {
        int64_t count = length;
        while (count > 1 && tokens[static_cast<size_t>(row * length + count - 1)] == padding) --count;
        seen_of.push_back(count);
    }
    if (std::all_of(seen_of.begin(), seen_of.end(), [&](int64_t count) { return count == length; }))
        return causal_mask(length);
    std::vector<ggml_fp16_t> mask;
    for (const int64_t count : seen_of)
        for (int64_t query = 0; query < length; ++query)
            for (int64_t key = 0; key < length; ++key) mask.push_back(key <= query && key < count ? seen() : hidden());
    return Array::of("mask", {rows, 1, length, length}, std::move(mask));
}

Array padding_mask(std::string name, const std::vector<int64_t>& texts, int64_t longest, int64_t behind) {
    const int64_t tokens = longest + behind;
    std::vector<ggml_fp16_t> mask;
    mask.reserve(texts.size() * static_cast<size_t>(tokens * tokens));
    for (const int64_t text : texts)
        for (int64_t query = 0; query < tokens; ++query)
            for (int64_t key = 0; key < tokens; ++key) mask.push_back(key < text || key >= longest ? seen() : hidden());
    return Array::of(std::move(name), {static_cast<int64_t>(texts.size()), 1, tokens, tokens}, std::move(mask));
}

}  // namespace sdcpp
