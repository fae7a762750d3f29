// Sources of weights' values, and the forms that they give them in.
#include "weights/weight.h"

#include <doctest/doctest.h>

#include <cstring>
#include <filesystem>
#include <fstream>

#include "tests/throws.h"

using namespace sdcpp;

namespace {

const Naming probe{.name = "probe",
                   .kind = "probe",
                   .prefixes = {"probe."},
                   .slots = {},
                   .config = "",
                   .recognises = [](const FileNames&) { return 0; },
                   .renamer = nullptr,
                   .fused = {},
                   .networks = {{"probe."}},
                   .metadata = {}};

// A safetensors file with a tensor of f8 values and the factor that belongs to it, gone with the object.
struct ScaledFile {
    std::filesystem::path path = std::filesystem::temp_directory_path() / "sdcpp_weight_test.safetensors";

    explicit ScaledFile(const std::string& factor_shape) {
        std::string header = R"({"probe.weight":{"dtype":"F8_E4M3","shape":[2,4],)"
                             R"("data_offsets":[0,8]},"probe.scale_weight":{"dtype":"F32",)"
                             R"("shape":)" +
                             factor_shape + R"(,"data_offsets":[8,)" + (factor_shape == "[2]" ? "16" : "12") + "]}}";
        while (header.size() % 8 != 0) header += ' ';
        const uint64_t size = header.size();
        std::ofstream out(path, std::ios::binary);
        out.write(reinterpret_cast<const char*>(&size), 8);
        out << header;
        for (const int byte : {0x38, 0x40, 0x30, 0xB8, 0x38, 0x38, 0x00, 0x48})  // 1, 2, 0.5, -1, 1, 1, 0, 4
            out.put(static_cast<char>(byte));
        const float factor[2] = {0.25f, 0.25f};
        out.write(reinterpret_cast<const char*>(factor), factor_shape == "[2]" ? 8 : 4);
    }
    ~ScaledFile() { std::filesystem::remove(path); }
};

}  // namespace

TEST_CASE("f8 tensors with a factor are multiplied by it") {
    const ScaledFile file("[1]");
    const ModelFiles files({{file.path}}, {&probe});
    WeightList list;
    const Weight* weight = Scope(list, files, "probe").weight("weight", WeightKind::matrix, {2, 4});
    const ggml_type type = stored_type(*weight, {});
    CHECK(type == GGML_TYPE_F16);
    CHECK(weight->source->bytes_as(type).empty());
    std::vector<ggml_fp16_t> values(8);
    convert_weight(*weight, type, reinterpret_cast<std::byte*>(values.data()), 1, true);
    const std::vector<float> expected = {0.25f, 0.5f, 0.125f, -0.25f, 0.25f, 0.25f, 0, 1};
    for (size_t i = 0; i < values.size(); ++i) CHECK(ggml_fp16_to_fp32(values[i]) == expected[i]);
}

TEST_CASE("a factor that is not one number is refused") {
    const ScaledFile file("[2]");
    const ModelFiles files({{file.path}}, {&probe});
    WeightList list;
    const Scope scope(list, files, "probe");
    CHECK(throws(SDCPP_UNSUPPORTED_MODEL, [&] { scope.weight("weight", WeightKind::matrix, {2, 4}); }));
    CHECK(throws(SDCPP_MISSING_PART, [&] { scope.weight("bias", WeightKind::vector, {2}); }));
}

TEST_CASE("a source gives its bytes unchanged only in their own type, and rows from anywhere") {
    const std::vector<float> stored = {1, 2, 3, 4, 5, 6};
    std::vector<std::byte> bytes(stored.size() * sizeof(float));
    std::memcpy(bytes.data(), stored.data(), bytes.size());
    const MappedFile file("memory", bytes);
    const auto source =
        std::make_shared<MappedSource>(TensorInfo{"x", from_ggml(GGML_TYPE_F32), {3, 2}, file.bytes()}, file);
    CHECK(source->bytes_as(GGML_TYPE_F32).data() == file.bytes().data());
    CHECK(source->bytes_as(GGML_TYPE_F16).empty());
    std::vector<float> rows(4);
    source->rows(2, 4, rows.data());
    CHECK(rows == std::vector<float>{3, 4, 5, 6});
    CHECK(ScaledSource(source, 1).bytes_as(GGML_TYPE_F32).size() == bytes.size());
    const ScaledSource doubled(source, 2);
    CHECK(doubled.bytes_as(GGML_TYPE_F32).empty());
    doubled.rows(0, 2, rows.data());
    CHECK(rows[0] == 2);
    CHECK(rows[1] == 4);
}
