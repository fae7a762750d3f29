#include "pipeline/text_recipe.h"

#include <algorithm>

#include "base/error.h"

namespace sdcpp {
namespace {

// States [tokens, width].
struct Row {
    Floats states;
    int64_t tokens = 0, width = 0;
};

// All states that a row of the recipe names, side by side along their channels, without the `first` tokens.
Row side_by_side(const std::vector<TextStates>& row, const EncodedTexts& texts, int64_t first) {
    Row out;
    out.tokens = texts.at(row.front().encoder).tokens;
    for (const TextStates& one : row) {
        const Encoded& text = texts.at(one.encoder);
        if (text.tokens != out.tokens)
            fail(SDCPP_INVALID_ARGUMENT, "a prompt must have as many chunks for every text encoder");
        out.width += text.width * static_cast<int64_t>(text.states.size());
    }
    for (int64_t token = first; token < out.tokens; ++token)
        for (const TextStates& one : row) {
            const Encoded& text = texts.at(one.encoder);
            for (const Floats& states : text.states) {
                const auto begin = states.begin() + token * text.width;
                out.states.insert(out.states.end(), begin, begin + text.width);
            }
        }
    out.tokens -= first;
    if (out.tokens < 1)
        fail(SDCPP_INVALID_ARGUMENT, "a prompt of ", out.tokens + first, " tokens has nothing but the template's");
    return out;
}

}  // namespace

Conditioning conditioning_of(const TextRecipe& recipe, std::vector<int64_t> shape, Floats context, Floats pooled) {
    Conditioning out;
    out.items.push_back({Array::of("context", std::move(shape), std::move(context)),
                         recipe.mixes_lengths ? Conditioning::Join::pad : Conditioning::Join::equal});
    if (const auto size = static_cast<int64_t>(pooled.size()); size > 0)
        out.items.push_back({Array::of("pooled", {1, size}, std::move(pooled))});
    return out;
}

Conditioning assembled(const TextRecipe& recipe, const EncodedTexts& texts) {
    std::vector<Row> rows;
    int64_t width = 0, tokens = 0;
    for (const auto& row : recipe.context) {
        rows.push_back(side_by_side(row, texts, recipe.left_out));
        width = std::max(width, rows.back().width);
        tokens += rows.back().tokens;
    }
    Floats context;
    for (const Row& row : rows)
        for (int64_t token = 0; token < row.tokens; ++token) {
            const auto first = row.states.begin() + token * row.width;
            context.insert(context.end(), first, first + row.width);
            context.resize(context.size() + static_cast<size_t>(width - row.width), 0.0f);
        }
    Floats pooled;
    for (const TextRecipe::PooledFrom& one : recipe.pooled) {
        const Floats& own = texts.at(one.encoder).pooled;
        pooled.insert(pooled.end(), own.begin(), own.end());
    }
    return conditioning_of(recipe, {1, tokens, width}, std::move(context), std::move(pooled));
}

}  // namespace sdcpp
