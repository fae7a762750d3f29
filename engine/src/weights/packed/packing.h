// Packed weights: values as codes of a few bits, in files that say beside each weight what its codes stand for.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "io/tensor_file.h"

namespace sdcpp {

// Factors of blocks of consecutive values. They are many, so they stay in the file until their rows are read.
struct BlockFactors {
    std::string name{};  // the tensor's
    std::span<const std::byte> bytes{};
    DType type{};                // the factors' type, unless they are bytes, whose numbers a table has
    std::vector<float> table{};  // 256 numbers; empty: none
    int64_t side = 0;            // values that share a factor
    // Factors of a row, padding included, if they lie in tiles of 128 rows and 4 columns; 0: row by row.
    int64_t tiled_columns = 0;
    // Factors of factors, one for `over_side` of them, and what is added to the product; empty: none.
    std::vector<float> over{};
    int64_t over_side = 0;
    float offset = 0;
};

// What the codes of a weight stand for:
//   value[row, column] = level(code) * factor * block factor * row factor, un-rotated, * column factor
struct Packing {
    std::string format;             // such as "nvfp4", as `sdcpp info` writes it
    int bits = 8;                   // a code's size: 4, 6 (the low four of a row first, then its high two) or 8
    bool high_first = false;        // the first of two codes in a byte is in its high half
    std::vector<float> levels{};    // by code; empty: codes are whole numbers in two's complement
    int64_t rows = 0, columns = 0;  // as stored
    int64_t padding = 1;            // sides may be padded to multiples of it
    float factor = 1;
    std::optional<BlockFactors> blocks{};
    bool whole_numbers = false;        // products of levels and block factors are rounded, within 127
    std::vector<float> row_factors{};  // empty: none
    // ConvRot: stored rows are W·R, where R repeats along the diagonal a symmetric orthogonal matrix of this side; 0:
    // W.
    int64_t rotation = 0;
    std::vector<float> column_factors{};  // empty: none
    float largest = 0;  // size of any value before it is un-rotated; infinite if it is not known without reading all
};

}  // namespace sdcpp
