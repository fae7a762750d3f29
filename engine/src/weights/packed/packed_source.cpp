#include "weights/packed/packed_source.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

#include "base/error.h"

namespace sdcpp {
namespace {

constexpr int64_t tile_rows = 128, tile_columns = 4, tile_bytes = tile_rows * tile_columns;

// Where the factor of block `column` lies in a row's tiles, from the first tile of the 128 rows.
int64_t place_in_tiles(int64_t row, int64_t column) {
    return column / tile_columns * tile_bytes + row % 32 * 16 + row % tile_rows / 32 * tile_columns +
           column % tile_columns;
}

// Levels of both codes of a byte, in the order of the values.
std::array<float, 512> pairs_of(const Packing& packing) {
    std::array<float, 512> pairs{};
    for (size_t byte = 0; byte < 256; ++byte) {
        const float low = packing.levels[byte & 15], high = packing.levels[byte >> 4];
        pairs[2 * byte] = packing.high_first ? high : low;
        pairs[2 * byte + 1] = packing.high_first ? low : high;
    }
    return pairs;
}

// Values [first, first + count) of codes that follow each other without a gap.
void unpack_halves(const uint8_t* codes, int64_t first, int64_t count, const std::array<float, 512>& pairs,
                   float* out) {
    int64_t at = 0;
    const uint8_t* from = codes + first / 2;
    if (first % 2 != 0 && count > 0) out[at++] = pairs[2 * size_t{*from++} + 1];
    for (; at + 2 <= count; at += 2) std::memcpy(out + at, pairs.data() + 2 * size_t{*from++}, 2 * sizeof(float));
    if (at < count) out[at] = pairs[2 * size_t{*from}];
}

// A row of codes of six bits: the low four of each, then the high two.
void unpack_six(const uint8_t* row, int64_t count, const std::vector<float>& levels, float* out) {
    const uint8_t* high = row + count / 2;
    for (int64_t i = 0; i < count; ++i) {
        const int low = row[i / 2] >> (i % 2 * 4) & 15, top = high[i / 4] >> (i % 4 * 2) & 3;
        out[i] = levels[static_cast<size_t>(low | top << 4)];
    }
}

void unpack_bytes(const uint8_t* codes, int64_t count, const std::vector<float>& levels, float* out) {
    if (levels.empty())
        for (int64_t i = 0; i < count; ++i) out[i] = static_cast<float>(static_cast<int8_t>(codes[i]));
    else
        for (int64_t i = 0; i < count; ++i) out[i] = levels[codes[i]];
}

// Four values times twice the matrix [1 1 1 -1; 1 1 -1 1; 1 -1 1 1; -1 1 1 1] / 2.
inline std::array<float, 4> turned(float a, float b, float c, float d) {
    return {(a + b) + (c - d), (a + b) - (c - d), (a - b) + (c + d), (c + d) - (a - b)};
}

// Sixteen values times the matrix's second Kronecker power. The loops run over neighbours, for vectors.
void rotate_sixteen(float* at) {
    std::array<float, 16> across;  // the values as a square, transposed
    for (size_t j = 0; j < 4; ++j) {
        const std::array<float, 4> four = turned(at[j], at[4 + j], at[8 + j], at[12 + j]);
        for (size_t i = 0; i < 4; ++i) across[4 * j + i] = four[i];
    }
    for (size_t j = 0; j < 4; ++j) {
        const std::array<float, 4> four = turned(across[j], across[4 + j], across[8 + j], across[12 + j]);
        for (size_t i = 0; i < 4; ++i) at[4 * j + i] = four[i];
    }
}

// One more power: four values that stand `step` apart, for each of `step` neighbours.
void rotate_apart(float* at, int64_t step) {
    float* __restrict first = at;
    float* __restrict second = at + step;
    float* __restrict third = at + 2 * step;
    float* __restrict fourth = at + 3 * step;
    for (int64_t j = 0; j < step; ++j) {
        const std::array<float, 4> four = turned(first[j], second[j], third[j], fourth[j]);
        first[j] = four[0];
        second[j] = four[1];
        third[j] = four[2];
        fourth[j] = four[3];
    }
}

// A row times R: the matrix's Kronecker power of `group` sides, again and again.
void rotate(float* row, int64_t columns, int64_t group) {
    const float size = 1 / std::sqrt(static_cast<float>(group));  // a power of two
    for (float* block = row; block < row + columns; block += group) {
        int64_t step = 1;
        if (group >= 16) {
            for (int64_t i = 0; i < group; i += 16) rotate_sixteen(block + i);
            step = 16;
        }
        for (; step < group; step *= 4)
            for (int64_t i = 0; i < group; i += 4 * step) rotate_apart(block + i, step);
        for (int64_t i = 0; i < group; ++i) block[i] *= size;
    }
}

// The nearest whole numbers within 127, halves to even ones: what is added leaves no bits for fractions.
void round_within_127(float* row, int64_t count) {
    constexpr float no_fraction = 0x1.8p23f;
    for (int64_t i = 0; i < count; ++i) row[i] = (std::clamp(row[i], -127.0f, 127.0f) + no_fraction) - no_fraction;
}

}  // namespace

PackedSource::PackedSource(const TensorInfo& tensor, const MappedFile& file, const MappedFile& factors)
    : name_(tensor.name),
      type_(tensor.type),
      count_(tensor.count()),
      columns_(count_ / tensor.shape.front()),
      first_row_(tensor.first_row),
      codes_(tensor.bytes),
      packing_(tensor.packing),
      file_(file),
      factors_file_(factors) {}

std::span<const std::byte> PackedSource::codes_of(int64_t first_row, int64_t count) const {
    const int64_t first = first_row * packing_->columns * packing_->bits / 8;
    const int64_t last = ((first_row + count) * packing_->columns * packing_->bits + 7) / 8;
    return codes_.subspan(static_cast<size_t>(first), static_cast<size_t>(last - first));
}

std::span<const std::byte> PackedSource::factors_of(int64_t first_row, int64_t count, int64_t& first) const {
    const BlockFactors& blocks = *packing_->blocks;
    const int64_t begin = first_row_ + first_row, end = begin + count;
    int64_t last = 0, size = 1;
    if (blocks.tiled_columns > 0) {
        first = begin / tile_rows * tile_rows * blocks.tiled_columns;
        last = (end + tile_rows - 1) / tile_rows * tile_rows * blocks.tiled_columns;
    } else {
        first = begin * packing_->columns / blocks.side;
        last = (end * packing_->columns + blocks.side - 1) / blocks.side;
        size = blocks.table.empty() ? static_cast<int64_t>(dtype_block_bytes(blocks.type)) : 1;
    }
    return blocks.bytes.subspan(static_cast<size_t>(first * size), static_cast<size_t>((last - first) * size));
}

std::vector<float> PackedSource::read_factors(int64_t first_row, int64_t count, int64_t& first) const {
    const BlockFactors& blocks = *packing_->blocks;
    const std::span<const std::byte> stored = factors_of(first_row, count, first);
    std::vector<std::byte> bytes(stored.size());
    factors_file_.read(stored, bytes.data());
    std::vector<float> out(blocks.table.empty() ? bytes.size() / dtype_block_bytes(blocks.type) : bytes.size());
    if (blocks.table.empty())
        to_f32(blocks.type, bytes.data(), out.data(), static_cast<int64_t>(out.size()));
    else
        std::transform(bytes.begin(), bytes.end(), out.begin(),
                       [&](std::byte byte) { return blocks.table[static_cast<uint8_t>(byte)]; });
    if (!blocks.over.empty())
        for (size_t i = 0; i < out.size(); ++i)
            out[i] = out[i] * blocks.over[(static_cast<size_t>(first) + i) / static_cast<size_t>(blocks.over_side)] +
                     blocks.offset;
    return out;
}

void PackedSource::multiply_blocks(int64_t number, const std::vector<float>& factors, int64_t first_factor,
                                   float* row) const {
    const BlockFactors& blocks = *packing_->blocks;
    const int64_t width = packing_->columns;
    const bool tiled = blocks.tiled_columns > 0;
    const int64_t before = tiled ? 0 : number * width;  // values that blocks are counted from before the row's first
    const int64_t tiles = number / tile_rows * tile_rows * blocks.tiled_columns;
    int64_t block = before / blocks.side, end = (block + 1) * blocks.side - before;
    for (int64_t i = 0; i < width; ++block, end += blocks.side) {
        const int64_t at = (tiled ? tiles + place_in_tiles(number, block) : block) - first_factor;
        const float factor = packing_->factor * factors[static_cast<size_t>(at)];
        if (!std::isfinite(factor))
            fail(SDCPP_BAD_FILE, "a factor in ", blocks.name, " is ", factor, " (row ", number, " of ", name_,
                 "); the file is damaged: download it again");
        for (const int64_t stop = std::min(end, width); i < stop; ++i) row[i] *= factor;
    }
}

void PackedSource::stored_rows(int64_t first, int64_t count, float* out) const {
    const Packing& packing = *packing_;
    const int64_t width = packing.columns;
    const std::span<const std::byte> stored = codes_of(first, count);
    const std::unique_ptr<std::byte[]> copy(new std::byte[stored.size()]);
    file_.read(stored, copy.get());
    const auto* codes = reinterpret_cast<const uint8_t*>(copy.get());
    const int64_t skipped = first * width % 2;  // codes of the first byte that are the row's before
    const std::array<float, 512> pairs = packing.bits == 4 ? pairs_of(packing) : std::array<float, 512>{};
    int64_t first_factor = 0;
    std::vector<float> factors;
    if (packing.blocks) factors = read_factors(first, count, first_factor);
    for (int64_t r = 0; r < count; ++r) {
        float* const row = out + r * width;
        if (packing.bits == 4)
            unpack_halves(codes, skipped + r * width, width, pairs, row);
        else if (packing.bits == 6)
            unpack_six(codes + r * width / 4 * 3, width, packing.levels, row);
        else
            unpack_bytes(codes + r * width, width, packing.levels, row);
        const int64_t number = first_row_ + first + r;  // the row's
        if (packing.blocks) multiply_blocks(number, factors, first_factor, row);
        if (packing.whole_numbers) round_within_127(row, width);
        if (!packing.blocks || !packing.row_factors.empty()) {
            const float own = packing.row_factors.empty() ? 1 : packing.row_factors[static_cast<size_t>(number)];
            const float factor = packing.blocks ? own : packing.factor * own;
            for (int64_t i = 0; i < width; ++i) row[i] *= factor;
        }
        if (packing.rotation > 0) rotate(row, width, packing.rotation);
        for (size_t i = 0; i < packing.column_factors.size(); ++i) row[i] *= packing.column_factors[i];
    }
}

void PackedSource::rows(int64_t first, int64_t count, float* out) const {
    const int64_t stored = packing_->columns;
    if (stored == columns_ && first % columns_ == 0 && count % columns_ == 0)
        return stored_rows(first / columns_, count / columns_, out);
    const int64_t begin = first / columns_, end = (first + count + columns_ - 1) / columns_;
    std::vector<float> values(static_cast<size_t>((end - begin) * stored));
    stored_rows(begin, end - begin, values.data());
    for (int64_t i = 0; i < count;) {
        const int64_t row = (first + i) / columns_, column = (first + i) % columns_;
        const int64_t part = std::min(columns_ - column, count - i);
        std::copy_n(values.begin() + (row - begin) * stored + column, part, out + i);
        i += part;
    }
}

void PackedSource::forget(int64_t first, int64_t count) const {
    const int64_t begin = first / columns_, end = (first + count + columns_ - 1) / columns_;
    file_.forget(codes_of(begin, end - begin));
    int64_t number = 0;
    if (packing_->blocks) factors_file_.forget(factors_of(begin, end - begin, number));
}

// Below 2^-14 f16 has a fixed step of 2^-24, which is fine for values beside far larger ones.
bool PackedSource::fits_f16() const {
    float largest = packing_->largest;
    if (packing_->rotation > 0) largest *= std::sqrt(static_cast<float>(packing_->rotation));
    float column = packing_->column_factors.empty() ? 1 : 0;
    for (const float factor : packing_->column_factors) column = std::max(column, std::abs(factor));
    return largest * column <= 65504.0f && packing_->largest * column >= 0x1p-12f;
}

}  // namespace sdcpp
