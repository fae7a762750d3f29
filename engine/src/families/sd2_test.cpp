// Facts of Stable Diffusion 2.x that only values show.
#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <filesystem>

#include "families/family.h"
#include "tests/tensor_files.h"

using namespace sdcpp;

namespace {

const Naming unet = plain_naming("unet", "unet.");

constexpr const char* bias = "unet.output_blocks.11.1.transformer_blocks.0.norm1.bias";
constexpr int64_t count = 8;

// Whether v is recognised if the bias is these bytes.
bool v_with(const std::string& type, const std::string& bytes) {
    const auto path = std::filesystem::temp_directory_path() / "sdcpp_sd2_test.safetensors";
    write_safetensors(path,
                      "{\"" + std::string(bias) + R"(":{"dtype":")" + type + R"(","shape":[8],"data_offsets":[0,)" +
                          std::to_string(bytes.size()) + "]}}",
                      bytes);
    bool found = false;
    {
        const ModelFiles files({{path}}, {&unet});
        found = sd2.prediction.v_prediction(files);
    }
    std::filesystem::remove(path);
    return found;
}

// `middle` plus and minus `spread` in turn.
template <typename Value>
std::string values(float middle, float spread, Value (*as)(float)) {
    std::string out(count * sizeof(Value), '\0');
    for (int64_t i = 0; i < count; ++i) {
        const Value value = as(middle + (i % 2 ? spread : -spread));
        std::memcpy(out.data() + i * static_cast<int64_t>(sizeof value), &value, sizeof value);
    }
    return out;
}

}  // namespace

TEST_CASE("a bias that spreads wide around its mean tells a model that predicts v, whatever its type") {
    const auto f32 = [](float value) { return value; };
    for (const float middle : {0.0f, 0.5f, -2.0f})
        for (const auto& [spread, v] : {std::pair{0.05f, false}, {0.08f, false}, {0.1f, true}, {0.3f, true}}) {
            CHECK(v_with("F32", values<float>(middle, spread, f32)) == v);
            CHECK(v_with("F16", values<ggml_fp16_t>(middle, spread, ggml_fp32_to_fp16)) == v);
        }
    CHECK(v_with("BF16", values<ggml_bf16_t>(0.5f, 0.3f, ggml_fp32_to_bf16)));
    CHECK_FALSE(v_with("BF16", values<ggml_bf16_t>(0.5f, 0.02f, ggml_fp32_to_bf16)));
    const std::string ones = "\x38\xB8\x38\xB8\x38\xB8\x38\xB8";  // 1 and -1 as f8
    CHECK(v_with("F8_E4M3", ones));
}
