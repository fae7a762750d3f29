// Masks of attention, to be added to scores: f16, 0 for what is seen and minus infinity for what is not.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "nn/array.h"

namespace sdcpp {

// A lower triangle [tokens, tokens]: each token sees itself and those before it. Shared by a batch.
Array causal_mask(int64_t tokens);

// The same for `rows` rows of tokens, if padding stands at the end of none. If it does, [rows, 1, T, T]: none sees it.
Array causal_mask(std::span<const int32_t> tokens, int64_t rows, int32_t padding);

// [texts, 1, T, T] with T = `longest` + `behind`: text n's tokens from texts[n] to `longest`, which are padding, are
// seen by none. `behind` tokens, which all are seen, follow each text.
Array padding_mask(std::string name, const std::vector<int64_t>& texts, int64_t longest, int64_t behind);

}  // namespace sdcpp
