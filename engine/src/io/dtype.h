// Number formats of tensors in files: ggml's types under ggml's numbers, and the few that ggml does not have.
#pragma once

#include <ggml.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>

namespace sdcpp {

enum class DType : int {
    f8_e4m3 = 1000,  // "fn": no infinities, largest value 448
    f8_e5m2 = 1001,
    u8 = 1002,
    boolean = 1003,
    // Codes of packed formats (weights/packed/packing.h): what they stand for is told beside them.
    codes_4 = 1004,
    codes_6 = 1005,
    codes_8 = 1006,
};

constexpr DType from_ggml(ggml_type type) { return static_cast<DType>(type); }
constexpr bool is_ggml(DType type) { return static_cast<int>(type) < 1000; }
constexpr ggml_type to_ggml(DType type) { return static_cast<ggml_type>(type); }

std::string dtype_name(DType type);  // as the command line writes it: f16, q4_K, f8_e4m3 …
// The name by which a type is known here, for another spelling of it, such as "Q8_0", "q4_k", "fp16" or "bfloat16";
// else `name` itself.
std::string usual_dtype_name(const std::string& name);
std::optional<DType> dtype_from_name(const std::string& name);

// Values in one block (1 for plain types) and its bytes.
int64_t dtype_block(DType type);
size_t dtype_block_bytes(DType type);

// True for types whose values can be turned into f32 (all but integers and booleans).
bool dtype_is_numeric(DType type);

// `count` values (whole blocks) from `source` to f32.
void to_f32(DType type, const std::byte* source, float* out, int64_t count);

// `count` values to f16, rounded as ggml rounds them, in a loop for vectors.
void to_f16(const float* source, ggml_fp16_t* out, int64_t count);

}  // namespace sdcpp
