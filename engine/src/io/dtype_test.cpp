// Number formats.
#include <doctest/doctest.h>

#include <bit>
#include <cmath>
#include <vector>

#include "io/dtype.h"

using namespace sdcpp;

TEST_CASE("f8 formats convert exactly") {
    std::vector<std::byte> all(256);
    for (size_t i = 0; i < 256; ++i) all[i] = static_cast<std::byte>(i);
    std::vector<float> values(256), again(256);
    for (const DType type : {DType::f8_e4m3, DType::f8_e5m2}) {
        to_f32(type, all.data(), values.data(), 256);
        bool exact = true;
        for (size_t i = 0; i < 256; ++i) {
            const float half = ggml_fp16_to_fp32(ggml_fp32_to_fp16(values[i]));
            exact = exact && (half == values[i] || std::isnan(values[i]));
        }
        CHECK_MESSAGE(exact, "every f8 value is an f16 value");
    }
    to_f32(DType::f8_e4m3, all.data(), values.data(), 256);
    CHECK(values[0x7E] == 448);
    CHECK(values[0x38] == 1);
    CHECK(values[1] == std::ldexp(1.0f, -9));
    CHECK(std::isnan(values[0x7F]));
}

TEST_CASE("f16 is rounded as ggml rounds it") {
    std::vector<float> values;
    for (uint64_t bits = 0; bits < 1ull << 32; bits += 4099)
        values.push_back(std::bit_cast<float>(static_cast<uint32_t>(bits)));
    for (uint32_t half = 0; half < 1u << 16; ++half) {  // every number, those halfway to the next, and their neighbours
        const float number = ggml_fp16_to_fp32(static_cast<ggml_fp16_t>(half));
        const float next = ggml_fp16_to_fp32(static_cast<ggml_fp16_t>(half + 1));
        const float between = number + (next - number) / 2;
        for (const float value : {number, between, std::nextafter(between, number), std::nextafter(between, next)})
            values.push_back(value);
    }
    for (const float value : {65504.0f, 65519.99f, 65520.0f, 65536.0f, INFINITY, -INFINITY, NAN, -NAN, -0.0f, 1e-8f})
        values.push_back(value);
    std::vector<ggml_fp16_t> found(values.size());
    to_f16(values.data(), found.data(), static_cast<int64_t>(values.size()));
    size_t different = 0;
    for (size_t i = 0; i < values.size(); ++i) different += found[i] != ggml_fp32_to_fp16(values[i]);
    CHECK(different == 0);
}
