// Sources of weights' values, and the forms that they give them in.
#include "weights/weight.h"

#include <doctest/doctest.h>

#include <array>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <sstream>

#include "tests/tensor_files.h"
#include "tests/throws.h"

using namespace sdcpp;

namespace {

const Naming probe = plain_naming("probe", "probe.");

// A safetensors file of a tensor of f8 values, [rows, columns], and the factors that belong to it, gone with the
// object.
struct ScaledFile {
    std::filesystem::path path = std::filesystem::temp_directory_path() / "sdcpp_weight_test.safetensors";

    ScaledFile(int64_t rows, int64_t columns, const std::string& name, const std::string& shape,
               const std::vector<float>& factors) {
        const int64_t size = rows * columns, all = size + static_cast<int64_t>(factors.size() * sizeof(float));
        std::ostringstream header;
        header << R"({"probe.weight":{"dtype":"F8_E4M3","shape":[)" << rows << "," << columns
               << R"(],"data_offsets":[0,)" << size << R"(]},"probe.)" << name << R"(":{"dtype":"F32","shape":)"
               << shape << R"(,"data_offsets":[)" << size << "," << all << "]}}";
        std::string bytes(static_cast<size_t>(all), '\0');
        for (int64_t i = 0; i < size; ++i) bytes[static_cast<size_t>(i)] = static_cast<char>(code(i));
        std::memcpy(bytes.data() + size, factors.data(), factors.size() * sizeof(float));
        write_safetensors(path, header.str(), bytes);
    }
    ~ScaledFile() { std::filesystem::remove(path); }

    static uint8_t code(int64_t i) {
        return std::array<uint8_t, 8>{0x38, 0x40, 0x30, 0xB8, 0x38, 0x38, 0x00, 0x48}[static_cast<size_t>(i % 8)];
    }
    static float value(int64_t i) {
        return std::array<float, 8>{1, 2, 0.5f, -1, 1, 1, 0, 4}[static_cast<size_t>(i % 8)];
    }
};

std::vector<float> values_of(const ScaledFile& file, int64_t rows, int64_t columns, ggml_type expected) {
    const ModelFiles files({{file.path}}, {&probe});
    WeightList list;
    const Weight* weight = Scope(list, files, "probe").weight("weight", WeightKind::matrix, {rows, columns});
    const ggml_type type = stored_type(*weight, {});
    CHECK(type == expected);
    CHECK(weight->source->bytes_as(type).empty());
    std::vector<float> values(static_cast<size_t>(rows * columns));
    weight->source->rows(0, rows * columns, values.data());
    std::vector<std::byte> converted(ggml_row_size(type, rows * columns));
    convert_weight(*weight, type, converted.data(), 1, true);
    std::vector<float> back(values.size());
    to_f32(from_ggml(type), converted.data(), back.data(), rows * columns);
    for (size_t i = 0; i < values.size(); ++i) CHECK(back[i] == doctest::Approx(values[i]).epsilon(0.01));
    return values;
}

}  // namespace

TEST_CASE("f8 tensors are multiplied by their factor") {
    for (const char* name : {"scale_weight", "weight_scale", "weight_scale_inv"})
        for (const char* shape : {"[]", "[1]"}) {
            const std::vector<float> values = values_of(ScaledFile(2, 4, name, shape, {0.25f}), 2, 4, GGML_TYPE_F16);
            for (int64_t i = 0; i < 8; ++i) CHECK(values[static_cast<size_t>(i)] == ScaledFile::value(i) * 0.25f);
        }
}

TEST_CASE("a row of f8 values may have a factor of its own, and so may 128 x 128 values") {
    for (const char* shape : {"[2]", "[2,1]"}) {
        const std::vector<float> values =
            values_of(ScaledFile(2, 8, "weight_scale", shape, {0.25f, 0.5f}), 2, 8, GGML_TYPE_F16);
        for (int64_t i = 0; i < 16; ++i)
            CHECK(values[static_cast<size_t>(i)] == ScaledFile::value(i) * (i < 8 ? 0.25f : 0.5f));
    }
    const std::vector<float> factors = {1, 2, 3, 4, 5, 6};
    const std::vector<float> values =
        values_of(ScaledFile(200, 264, "weight_scale_inv", "[2,3]", factors), 200, 264, GGML_TYPE_F16);
    for (int64_t i = 0; i < 200 * 264; ++i) {
        const auto at = static_cast<size_t>(i / 264 / 128 * 3 + i % 264 / 128);
        CHECK(values[static_cast<size_t>(i)] == ScaledFile::value(i) * factors[at]);
    }
}

TEST_CASE("scaled values that f16 does not hold are kept in bf16") {
    values_of(ScaledFile(2, 4, "weight_scale", "[1]", {1e4f}), 2, 4, GGML_TYPE_BF16);
    values_of(ScaledFile(2, 4, "weight_scale", "[1]", {1e-8f}), 2, 4, GGML_TYPE_BF16);
}

TEST_CASE("factors that fit to nothing are refused") {
    const ScaledFile file(2, 4, "scale_weight", "[3]", {1, 2, 3});
    CHECK(throws(SDCPP_UNSUPPORTED_MODEL, [&] { ModelFiles({{file.path}}, {&probe}); }));
    const ScaledFile infinite(2, 4, "scale_weight", "[1]", {INFINITY});
    const ModelFiles files({{infinite.path}}, {&probe});
    WeightList list;
    const Scope scope(list, files, "probe");
    CHECK(throws(SDCPP_UNSUPPORTED_MODEL, [&] { scope.weight("weight", WeightKind::matrix, {2, 4}); }));
    CHECK(throws(SDCPP_MISSING_PART, [&] { scope.weight("bias", WeightKind::vector, {2}); }));
}

TEST_CASE("quantized rows that are not whole blocks are held in a type whose blocks they are") {
    const std::vector<std::byte> bytes(2 * 144);
    const MappedFile file("memory", bytes);
    for (const auto& [shape, expected] : {std::pair{std::vector<int64_t>{2, 256}, GGML_TYPE_Q4_K},
                                          {std::vector<int64_t>{16, 32}, GGML_TYPE_Q8_0},
                                          {std::vector<int64_t>{64, 8}, GGML_TYPE_F16}}) {
        const auto source =
            std::make_shared<MappedSource>(TensorInfo{"x", from_ggml(GGML_TYPE_Q4_K), shape, file.bytes()}, file);
        const Weight weight{"x", source, WeightKind::matrix, shape, nullptr};
        CHECK(stored_type(weight, {}) == expected);
    }
}

TEST_CASE("rows are read from the middle of blocks") {
    std::vector<std::byte> bytes(2 * 34);
    for (size_t block = 0; block < 2; ++block) {
        const ggml_fp16_t one = ggml_fp32_to_fp16(1);
        std::memcpy(bytes.data() + 34 * block, &one, 2);
        for (size_t i = 0; i < 32; ++i) bytes[34 * block + 2 + i] = static_cast<std::byte>(32 * block + i);
    }
    const MappedFile file("memory", bytes);
    const MappedSource source(TensorInfo{"x", from_ggml(GGML_TYPE_Q8_0), {8, 8}, file.bytes()}, file);
    std::vector<float> row(8);
    for (int64_t at = 0; at + 8 <= 64; at += 4) {
        source.rows(at, 8, row.data());
        for (int64_t i = 0; i < 8; ++i) CHECK(row[static_cast<size_t>(i)] == static_cast<float>(at + i));
    }
}

// Values 1 to 6 as f32 in three rows, in a file that is memory.
struct SixValues {
    static std::vector<std::byte> stored() {
        const std::vector<float> values = {1, 2, 3, 4, 5, 6};
        std::vector<std::byte> bytes(values.size() * sizeof(float));
        std::memcpy(bytes.data(), values.data(), bytes.size());
        return bytes;
    }
    std::vector<std::byte> bytes = stored();
    MappedFile file{"memory", bytes};
    std::shared_ptr<MappedSource> source =
        std::make_shared<MappedSource>(TensorInfo{"x", from_ggml(GGML_TYPE_F32), {3, 2}, file.bytes()}, file);
};

TEST_CASE("a source gives its bytes unchanged only in their own type, and rows from anywhere") {
    const SixValues six;
    const auto& source = six.source;
    CHECK(source->bytes_as(GGML_TYPE_F32).data() == six.file.bytes().data());
    CHECK(source->bytes_as(GGML_TYPE_F16).empty());
    std::vector<float> rows(4);
    source->rows(2, 4, rows.data());
    CHECK(rows == std::vector<float>{3, 4, 5, 6});
    const auto grid = [](float factor) { return std::make_shared<const ScaleGrid>(ScaleGrid{{factor}, 1, 3, 2}); };
    CHECK(ScaledSource(source, grid(1), 2, 0).bytes_as(GGML_TYPE_F32).size() == six.bytes.size());
    const ScaledSource doubled(source, grid(2), 2, 0);
    CHECK(doubled.bytes_as(GGML_TYPE_F32).empty());
    doubled.rows(0, 2, rows.data());
    CHECK(rows[0] == 2);
    CHECK(rows[1] == 4);
}

TEST_CASE("a slice of scaled rows has the factors of its own rows") {
    const SixValues six;
    const auto& source = six.source;
    const auto grid = std::make_shared<const ScaleGrid>(
        ScaleGrid{.factors = {10, 20, 30, 40, 50, 60}, .columns = 1, .row_side = 1, .column_side = 2});
    const ScaledSource slice(source, grid, 2, 2);  // rows 2, 3, 4 of the grid
    std::vector<float> rows(6);
    slice.rows(0, 6, rows.data());
    CHECK(rows == std::vector<float>{30, 60, 120, 160, 250, 300});
    slice.rows(2, 2, rows.data());
    CHECK(rows[0] == 120);
    CHECK(rows[1] == 160);
}

TEST_CASE("a kernel with a side for time gives its last slice") {
    const auto path = std::filesystem::temp_directory_path() / "sdcpp_timed_kernel_test.safetensors";
    std::vector<float> stored(2 * 3 * 3 * 2 * 2);
    for (size_t i = 0; i < stored.size(); ++i) stored[i] = static_cast<float>(i);
    const std::string bytes(reinterpret_cast<const char*>(stored.data()), stored.size() * sizeof(float));
    write_safetensors(path,
                      R"({"probe.weight":{"dtype":"F32","shape":[2,3,3,2,2],"data_offsets":[0,)" +
                          std::to_string(bytes.size()) + "]}}",
                      bytes);
    {
        const ModelFiles files({{path}}, {&probe});
        WeightList list;
        const Scope scope(list, files, "probe");
        const Weight* weight = scope.weight("weight", WeightKind::convolution, {2, 3, 2, 2});
        CHECK(weight->source->count() == 24);
        std::vector<float> values(24), middle(6);
        weight->source->rows(0, 24, values.data());
        for (int64_t i = 0; i < 24; ++i)
            CHECK(values[static_cast<size_t>(i)] == static_cast<float>(i / 4 * 12 + 8 + i % 4));
        weight->source->rows(10, 6, middle.data());
        for (size_t i = 0; i < middle.size(); ++i) CHECK(middle[i] == values[10 + i]);
        CHECK(throws(SDCPP_UNSUPPORTED_MODEL, [&] { scope.weight("weight", WeightKind::matrix, {2, 3, 2, 2}); }));
    }
    std::filesystem::remove(path);
}
