// Values of packed weights: rows from anywhere, slices, tiles, rotations, and factors that are no numbers.
#include "weights/packed/packed_source.h"

#include <doctest/doctest.h>

#include <array>
#include <cmath>
#include <cstring>

#include "tests/throws.h"

using namespace sdcpp;

namespace {

// Codes and, behind them, bytes of block factors, in a file that is memory.
struct Stored {
    std::vector<std::byte> all;
    MappedFile file;
    size_t codes;

    Stored(std::vector<uint8_t> code_bytes, const std::vector<uint8_t>& factors)
        : all(joined(std::move(code_bytes), factors)), file("memory", all), codes(all.size() - factors.size()) {}
    static std::vector<std::byte> joined(std::vector<uint8_t> first, const std::vector<uint8_t>& second) {
        first.insert(first.end(), second.begin(), second.end());
        std::vector<std::byte> out(first.size());
        std::memcpy(out.data(), first.data(), first.size());
        return out;
    }
    std::span<const std::byte> factors() const { return file.bytes().subspan(codes); }
    TensorInfo tensor(DType type, std::vector<int64_t> shape, Packing packing) const {
        TensorInfo out{"x.weight", type, std::move(shape), file.bytes().first(codes)};
        out.packing = std::make_shared<const Packing>(std::move(packing));
        return out;
    }
};

std::vector<float> values_of(const PackedSource& source, int64_t first, int64_t count) {
    std::vector<float> out(static_cast<size_t>(count));
    source.rows(first, count, out.data());
    return out;
}

std::vector<float> by_code() {
    std::vector<float> out;
    for (int code = 0; code < 16; ++code) out.push_back(static_cast<float>(code));
    return out;
}

std::vector<float> by_byte() {
    std::vector<float> out;
    for (int code = 0; code < 256; ++code) out.push_back(static_cast<float>(code));
    return out;
}

}  // namespace

TEST_CASE("two codes of a byte come in the order that the packing tells, from any value on") {
    const Stored stored({0x12, 0x34, 0x56}, {});
    for (const bool high_first : {true, false}) {
        Packing packing;
        packing.bits = 4;
        packing.high_first = high_first;
        packing.levels = by_code();
        packing.rows = 2;
        packing.columns = 3;  // the second row begins within a byte
        const PackedSource source(stored.tensor(DType::codes_4, {2, 3}, packing), stored.file, stored.file);
        const std::vector<float> expected =
            high_first ? std::vector<float>{1, 2, 3, 4, 5, 6} : std::vector<float>{2, 1, 4, 3, 6, 5};
        for (int64_t first = 0; first < 6; ++first)
            for (int64_t count = 1; first + count <= 6; ++count)
                CHECK(values_of(source, first, count) ==
                      std::vector<float>(expected.begin() + first, expected.begin() + first + count));
        CHECK(source.bytes_as(GGML_TYPE_F16).empty());
    }
}

TEST_CASE("codes of six bits are the low four of a row, then the high two") {
    const Stored stored({0x21, 0x43, 0b11'10'01'00}, {});
    Packing packing;
    packing.bits = 6;
    for (int code = 0; code < 64; ++code) packing.levels.push_back(static_cast<float>(code));
    packing.rows = 1;
    packing.columns = 4;
    const PackedSource source(stored.tensor(DType::codes_6, {1, 4}, packing), stored.file, stored.file);
    CHECK(values_of(source, 0, 4) == std::vector<float>{1, 2 + 16, 3 + 32, 4 + 48});
}

TEST_CASE("factors in tiles are found from any row of a slice, and padding is cut") {
    constexpr int64_t rows = 300, columns = 96, side = 32, tiled = 4;
    std::vector<uint8_t> codes(rows * columns, 1), factors(384 * tiled);
    for (int64_t r = 0; r < rows; ++r)
        for (int64_t c = 0; c < columns / side; ++c)
            factors[static_cast<size_t>(r / 128 * 512 + r % 32 * 16 + r % 128 / 32 * 4 + c)] =
                static_cast<uint8_t>((7 * r + 50 * c) % 256);
    const Stored stored(codes, factors);
    Packing packing;
    packing.rows = rows;
    packing.columns = columns;
    packing.padding = 32;
    packing.blocks = BlockFactors{.name = "x.weight_scale",
                                  .bytes = stored.factors(),
                                  .type = DType::u8,
                                  .table = by_byte(),
                                  .side = side,
                                  .tiled_columns = tiled};
    constexpr int64_t first = 120, real = 90;
    TensorInfo slice = stored.tensor(DType::codes_8, {150, real}, packing);
    slice.bytes = slice.bytes.subspan(first * columns, 150 * columns);
    slice.first_row = first;
    const PackedSource source(slice, stored.file, stored.file);
    for (int64_t r = 0; r < 150; r += 7) {
        const std::vector<float> row = values_of(source, r * real, real);
        for (int64_t c = 0; c < real; ++c)
            CHECK(row[static_cast<size_t>(c)] == static_cast<float>((7 * (first + r) + 50 * (c / side)) % 256));
    }
    source.forget(0, 150 * real);
}

TEST_CASE("blocks may cross rows, and their factors may be packed, too") {
    const Stored stored({1, 1, 1, 1, 1, 1}, {2, 3});
    Packing packing;
    packing.rows = 2;
    packing.columns = 3;
    packing.blocks = BlockFactors{.name = "x.absmax",
                                  .bytes = stored.factors(),
                                  .type = DType::u8,
                                  .table = by_byte(),
                                  .side = 4,
                                  .over = {10, 100},
                                  .over_side = 1,
                                  .offset = 0.5f};
    const PackedSource source(stored.tensor(DType::codes_8, {2, 3}, packing), stored.file, stored.file);
    CHECK(values_of(source, 0, 6) == std::vector<float>{20.5f, 20.5f, 20.5f, 20.5f, 300.5f, 300.5f});
    CHECK(values_of(source, 3, 3) == std::vector<float>{20.5f, 300.5f, 300.5f});
}

TEST_CASE("rows are un-rotated by the matrix that rotated them") {
    constexpr std::array<int, 16> four = {1, 1, 1, -1, 1, 1, -1, 1, 1, -1, 1, 1, -1, 1, 1, 1};
    for (const int64_t group : {4, 16, 256}) {
        std::vector<uint8_t> codes(static_cast<size_t>(2 * group));
        for (size_t i = 0; i < codes.size(); ++i) codes[i] = static_cast<uint8_t>(37 * i % 101);
        const Stored stored(codes, {});
        Packing packing;
        packing.rows = 1;
        packing.columns = 2 * group;
        packing.row_factors = {0.5f};
        packing.rotation = group;
        packing.largest = 64;
        const PackedSource source(stored.tensor(DType::codes_8, {1, 2 * group}, packing), stored.file, stored.file);
        const std::vector<float> found = values_of(source, 0, 2 * group);
        for (int64_t i = 0; i < 2 * group; ++i) {
            double sum = 0;
            for (int64_t j = 0; j < group; ++j) {
                double entry = 1;
                for (int64_t a = i % group, b = j, left = group; left > 1; a /= 4, b /= 4, left /= 4)
                    entry *= 0.5 * four[static_cast<size_t>(a % 4 * 4 + b % 4)];
                sum += 0.5 * codes[static_cast<size_t>(i / group * group + j)] * entry;
            }
            CHECK(found[static_cast<size_t>(i)] == doctest::Approx(sum).epsilon(1e-6));
        }
        CHECK(source.fits_f16());
    }
}

TEST_CASE("a factor that is no number is an error when its rows are read") {
    const Stored stored({1, 1, 1, 1}, {1, 255});
    Packing packing;
    packing.rows = 2;
    packing.columns = 2;
    std::vector<float> table = by_byte();
    table[255] = NAN;
    packing.blocks =
        BlockFactors{.name = "x.weight_scale", .bytes = stored.factors(), .type = DType::u8, .table = table, .side = 2};
    const PackedSource source(stored.tensor(DType::codes_8, {2, 2}, packing), stored.file, stored.file);
    CHECK(values_of(source, 0, 2) == std::vector<float>{1, 1});
    CHECK(throws(SDCPP_BAD_FILE, [&] { values_of(source, 2, 2); }));
}

TEST_CASE("products of levels and factors are rounded where int8 is meant") {
    const Stored stored({3, 5, 200, 1}, {});
    Packing packing;
    packing.rows = 1;
    packing.columns = 4;
    packing.levels = by_byte();
    packing.factor = 0.5f;
    packing.whole_numbers = true;
    std::vector<uint8_t> one = {1};
    const Stored factors({}, one);
    packing.blocks =
        BlockFactors{.name = "s", .bytes = factors.file.bytes(), .type = DType::u8, .table = by_byte(), .side = 4};
    packing.row_factors = {10};
    const PackedSource source(stored.tensor(DType::codes_8, {1, 4}, packing), stored.file, factors.file);
    CHECK(values_of(source, 0, 4) == std::vector<float>{20, 20, 1000, 0});  // halves go to the even neighbour
}
