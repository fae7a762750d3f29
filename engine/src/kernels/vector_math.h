// Loops over numbers that the CPU's own operations are made of.
#pragma once

#include <ggml.h>

#include <cstdint>

namespace sdcpp {

// `count` weights of any type as f32.
void widen(ggml_type type, const void* source, float* out, int64_t count);

// p[i] = 2^(p[i] - top); returns their sum.
float exp2_below(float* p, int64_t count, float top);
float largest(const float* p, int64_t count);
void multiply_by(float* p, int64_t count, float factor);
// sums += x * x
void add_squares(const float* x, float* sums, int64_t count);
// y = x * factors
void multiply(const float* x, const float* factors, float* y, int64_t count);
// p += other * factor
void add_half(float* p, const ggml_fp16_t* other, int64_t count, float factor);
// y = x with each pair of neighbours rotated: `factors` [2, count] as in nn/layers.h.
void apply_rope(const float* x, const float* factors, float* y, int64_t count);

// y = a * gelu(b), with the error function's gelu.
void gelu_gate(const float* a, const float* b, float* y, int64_t count);

struct Moments {
    double mean = 0, variance = 0;
};
Moments moments(const float* x, int64_t count);
// y = x * scale + shift, and of that y * sigmoid(y) if `silu`.
void scale_and_shift(const float* x, float* y, int64_t count, float scale, float shift, bool silu);

}  // namespace sdcpp
