#include "models/text_encoder.h"

#include <algorithm>

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

Selection TextEncoder::select_layers(const Wanted& wanted, size_t first) const {
    if (wanted.pooled != Pooled::no) fail(SDCPP_INTERNAL, name(), " gives no vector for a whole text");
    const auto layers = static_cast<size_t>(traits().layers);
    size_t last = 0;
    for (const int off : wanted.layers_off) last = std::max(last, layers - static_cast<size_t>(off));
    Selection out{{}, {}};
    for (size_t stage = 0; stage < first; ++stage) out.stages.push_back(stage);
    for (const int off : wanted.layers_off) {
        const size_t kept = layers - static_cast<size_t>(off);
        out.results.push_back(kept == last ? "x" : "states." + std::to_string(kept));
    }
    for (size_t layer = 0; layer < last; ++layer) {
        const size_t stage = first + 3 * layer;
        out.stages.insert(out.stages.end(), {stage, stage + 1});
        const std::string kept = "states." + std::to_string(layer + 1);
        if (std::find(out.results.begin(), out.results.end(), kept) != out.results.end())
            out.stages.push_back(stage + 2);
    }
    if (wanted.normed) out.stages.push_back(first + 3 * layers);
    return out;
}

}  // namespace sdcpp
