// A conditioning from the results of text encoders, by a family's recipe.
#pragma once

#include <map>
#include <string_view>
#include <vector>

#include "families/family.h"
#include "generation/samplers.h"
#include "models/conditioning.h"

namespace sdcpp {

// One text encoder's results for a prompt: states [T, C] for each depth that is wanted, and the whole text's vector.
struct Encoded {
    std::vector<Floats> states;
    Floats pooled;
    int64_t tokens = 0, width = 0;
};
using EncodedTexts = std::map<std::string_view, Encoded>;  // by encoder

// Throws SDCPP_INVALID_ARGUMENT if encoders whose states lie side by side have different numbers of tokens.
Conditioning assembled(const TextRecipe& recipe, const EncodedTexts& texts);

// The arrays "context" of `shape` and, unless it is empty, "pooled" [1, P].
Conditioning conditioning_of(const TextRecipe& recipe, std::vector<int64_t> shape, Floats context, Floats pooled);

}  // namespace sdcpp
