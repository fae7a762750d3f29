#include "io/dtype.h"

#include <algorithm>
#include <bit>
#include <cctype>
#include <cmath>
#include <cstring>

#include "base/error.h"

namespace sdcpp {
namespace {

float f8_e4m3_to_f32(uint8_t bits) {
    const int exponent = bits >> 3 & 15, fraction = bits & 7;
    const float sign = bits & 0x80 ? -1.0f : 1.0f;
    if (exponent == 15 && fraction == 7) return std::nanf("");
    if (exponent == 0) return sign * std::ldexp(static_cast<float>(fraction), -9);
    return sign * std::ldexp(static_cast<float>(8 + fraction), exponent - 10);
}

float f8_e5m2_to_f32(uint8_t bits) { return ggml_fp16_to_fp32(static_cast<ggml_fp16_t>(bits << 8)); }

template <float (*convert)(uint8_t)>
void f8_row(const std::byte* source, float* out, int64_t count) {
    float table[256];
    for (int bits = 0; bits < 256; ++bits) table[bits] = convert(static_cast<uint8_t>(bits));
    for (int64_t i = 0; i < count; ++i) out[i] = table[static_cast<uint8_t>(source[i])];
}

}  // namespace

std::string dtype_name(DType type) {
    switch (type) {
        case DType::f8_e4m3:
            return "f8_e4m3";
        case DType::f8_e5m2:
            return "f8_e5m2";
        case DType::u8:
            return "u8";
        case DType::boolean:
            return "bool";
        case DType::codes_4:
            return "4-bit codes";
        case DType::codes_6:
            return "6-bit codes";
        case DType::codes_8:
            return "8-bit codes";
    }
    return ggml_type_name(to_ggml(type));
}

std::string usual_dtype_name(const std::string& name) {
    std::string lower;
    for (const char letter : name) lower += static_cast<char>(std::tolower(static_cast<unsigned char>(letter)));
    if (lower == "fp32" || lower == "float32" || lower == "float") return "f32";
    if (lower == "fp16" || lower == "float16" || lower == "half") return "f16";
    if (lower == "bfloat16") return "bf16";
    for (int type = 0; type < GGML_TYPE_COUNT; ++type) {
        const char* known = ggml_type_name(static_cast<ggml_type>(type));
        if (!known || lower.size() != std::strlen(known)) continue;
        if (std::equal(lower.begin(), lower.end(), known,
                       [](char a, char b) { return a == std::tolower(static_cast<unsigned char>(b)); }))
            return known;
    }
    return name;
}

std::optional<DType> dtype_from_name(const std::string& name) {
    for (const DType type : {DType::f8_e4m3, DType::f8_e5m2})
        if (dtype_name(type) == name) return type;
    for (int type = 0; type < GGML_TYPE_COUNT; ++type) {
        const char* known = ggml_type_name(static_cast<ggml_type>(type));
        if (known && name == known) return from_ggml(static_cast<ggml_type>(type));
    }
    return std::nullopt;
}

int64_t dtype_block(DType type) {
    if (is_ggml(type)) return ggml_blck_size(to_ggml(type));
    return type == DType::codes_4 ? 2 : type == DType::codes_6 ? 4 : 1;
}
size_t dtype_block_bytes(DType type) {
    if (is_ggml(type)) return ggml_type_size(to_ggml(type));
    return type == DType::codes_6 ? 3 : 1;
}

bool dtype_is_numeric(DType type) {
    if (!is_ggml(type)) return type == DType::f8_e4m3 || type == DType::f8_e5m2;
    if (type == from_ggml(GGML_TYPE_F32) || type == from_ggml(GGML_TYPE_F64)) return true;
    const ggml_type_traits* traits = ggml_get_type_traits(to_ggml(type));
    return traits && traits->to_float;
}

void to_f32(DType type, const std::byte* source, float* out, int64_t count) {
    if (type == DType::f8_e4m3) return f8_row<f8_e4m3_to_f32>(source, out, count);
    if (type == DType::f8_e5m2) return f8_row<f8_e5m2_to_f32>(source, out, count);
    if (type == from_ggml(GGML_TYPE_F32)) {
        std::memcpy(out, source, static_cast<size_t>(count) * sizeof(float));
    } else if (type == from_ggml(GGML_TYPE_F64)) {
        for (int64_t i = 0; i < count; ++i) {
            double value = 0;
            std::memcpy(&value, source + 8 * i, sizeof value);
            out[i] = static_cast<float>(value);
        }
    } else if (dtype_is_numeric(type)) {
        // ggml reads 16-bit values directly: go through an aligned copy if the file's offset is odd.
        const size_t bytes = static_cast<size_t>(count / dtype_block(type)) * dtype_block_bytes(type);
        std::string aligned;
        const void* from = source;
        if (reinterpret_cast<uintptr_t>(source) % 4 != 0) {
            aligned.assign(reinterpret_cast<const char*>(source), bytes);
            from = aligned.data();
        }
        ggml_get_type_traits(to_ggml(type))->to_float(from, out, count);
    } else {
        fail(SDCPP_BAD_FILE, "values of type ", dtype_name(type), " cannot be used as weights");
    }
}

void to_f16(const float* source, ggml_fp16_t* out, int64_t count) {
    constexpr uint32_t infinity = 0x7F800000, first_infinite = 0x47800000, first_normal = 0x38800000;  // 2^16, 2^-14
    for (int64_t i = 0; i < count; ++i) {
        const auto bits = std::bit_cast<uint32_t>(source[i]), sign = bits & 0x80000000, size = bits ^ sign;
        // exponents are biased by 15 in place of 127; half of the last bit is added, less for even numbers
        const uint32_t normal = (size - ((127u - 15u) << 23) + 0xFFF + (size >> 13 & 1)) >> 13;
        // beside a half, the last bits that f32 keeps are those of f16's fixed steps
        const uint32_t small = std::bit_cast<uint32_t>(std::bit_cast<float>(size) + 0.5f) - 0x3F000000;
        const uint32_t large = size > infinity ? 0x7E00 : 0x7C00;
        const uint32_t half = size < first_normal ? small : size < first_infinite ? normal : large;
        out[i] = static_cast<ggml_fp16_t>(half | sign >> 16);
    }
}

}  // namespace sdcpp
