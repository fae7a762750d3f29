#include "models/text_encoder.h"

#include <limits>

#include "base/error.h"

namespace sdcpp {

void TextEncoder::declare_embeddings(const Scope& s, std::string_view name, int64_t vocabulary, int64_t width) {
    embeddings_ = s.weight(name, WeightKind::edge, {vocabulary, width});
    if (width % dtype_block(embeddings_->source->type()) != 0)
        fail(SDCPP_UNSUPPORTED_MODEL, embeddings_->name, " has rows that are not whole blocks of its type");
}

std::vector<float> TextEncoder::embedded(std::span<const int32_t> tokens) const {
    const int64_t width = embeddings_->shape[1];
    std::vector<float> out(tokens.size() * static_cast<size_t>(width));
    for (size_t i = 0; i < tokens.size(); ++i)
        embeddings_->source->rows(tokens[i] * width, width, out.data() + i * static_cast<size_t>(width));
    return out;
}

Array causal_mask(int64_t tokens) {
    std::vector<ggml_fp16_t> mask(static_cast<size_t>(tokens * tokens), ggml_fp32_to_fp16(0));
    const ggml_fp16_t hidden = ggml_fp32_to_fp16(-std::numeric_limits<float>::infinity());
    for (int64_t row = 0; row < tokens; ++row)
        for (int64_t column = row + 1; column < tokens; ++column)
            mask[static_cast<size_t>(row * tokens + column)] = hidden;
    return Array::of("mask", {tokens, tokens}, std::move(mask), true);
}

}  // namespace sdcpp
