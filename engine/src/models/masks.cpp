#include "models/masks.h"

#include <ggml.h>

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
