// Number formats.
#include <doctest/doctest.h>

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
