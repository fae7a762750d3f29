// Conditionings: what text encoders make of prompts, for a denoiser.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "nn/array.h"

namespace sdcpp {

struct Conditioning {
    enum class Join {
        equal,  // arrays of a batch must have one shape
        pad     // the second side may differ: shorter ones are padded with zeros
    };
    struct Item {
        Array array;  // f32 [1, …], by name: "context" [1, tokens, C], "pooled" [1, P] …
        Join join = Join::equal;
    };
    std::vector<Item> items;

    const Item* find(std::string_view name) const;
    // The array of this name. Throws SDCPP_INVALID_ARGUMENT if there is none.
    const Array& at(std::string_view name) const;
};

// Whether two may go through a denoiser as one batch.
bool joinable(const Conditioning& a, const Conditioning& b);

// The array `name` of each of `rows` as one [rows, …]. Second sides are padded to the longest, and that to a whole
// multiple of `multiple`.
Array joined(const std::vector<const Conditioning*>& rows, std::string_view name, int64_t multiple = 1);

}  // namespace sdcpp
