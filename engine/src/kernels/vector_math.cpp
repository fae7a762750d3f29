#include "kernels/vector_math.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>

#include "base/vector.h"

namespace sdcpp {
namespace {

constexpr int64_t lanes = 16;  // sums kept side by side, so that they are vectors

// Every f16 value, subnormal or not: its bits, moved to f32's fields, are the value times 2^-112.
SDCPP_VECTOR_CODE void widen_f16(const uint16_t* source, float* out, int64_t count) {
    for (int64_t i = 0; i < count; ++i) {
        const uint32_t h = source[i];
        const uint32_t infinite = (h & 0x7c00) == 0x7c00 ? 0x7f800000u : 0u;
        const float value = std::bit_cast<float>((h & 0x7fff) << 13) * 0x1p112f;
        out[i] = std::bit_cast<float>(std::bit_cast<uint32_t>(value) | infinite | (h & 0x8000) << 16);
    }
}

SDCPP_VECTOR_CODE void widen_bf16(const uint16_t* source, float* out, int64_t count) {
    for (int64_t i = 0; i < count; ++i) out[i] = std::bit_cast<float>(static_cast<uint32_t>(source[i]) << 16);
}

// exp by the series around 0 after taking out powers of two; relative error below 2e-7. Below -87 it is that of -87.
inline float exp_of(float x) {
    constexpr float to_nearest = 12582912.0f;  // 1.5 * 2^23
    x = std::min(std::max(x, -87.0f), 88.0f);
    const float shifted = x * 1.44269504f + to_nearest;
    const float power = shifted - to_nearest;
    const float r = (x - power * 0.693145752f) - power * 1.42860677e-6f;
    float y = 1.0f / 5040;
    y = y * r + 1.0f / 720;
    y = y * r + 1.0f / 120;
    y = y * r + 1.0f / 24;
    y = y * r + 1.0f / 6;
    y = y * r + 0.5f;
    y = y * r + 1.0f;
    y = y * r + 1.0f;
    return y * std::bit_cast<float>((std::bit_cast<uint32_t>(shifted) << 23) + 0x3f800000u);
}

}  // namespace

void widen(ggml_type type, const void* source, float* out, int64_t count) {
    switch (type) {
        case GGML_TYPE_F32:
            std::copy_n(static_cast<const float*>(source), count, out);
            return;
        case GGML_TYPE_F16:
            return widen_f16(static_cast<const uint16_t*>(source), out, count);
        case GGML_TYPE_BF16:
            return widen_bf16(static_cast<const uint16_t*>(source), out, count);
        default:
            ggml_get_type_traits(type)->to_float(source, out, count);
    }
}

namespace {

// 2^x for x of at most some, by the series around 0 after taking out whole powers; relative error below 2e-7. Below
// -126 it is that of -126.
inline float exp2_of(float x) {
    constexpr float to_nearest = 12582912.0f;  // 1.5 * 2^23
    x = x < -126.0f ? -126.0f : x;             // keeps NaN
    const float shifted = x + to_nearest;
    const float r = x - (shifted - to_nearest);
    float y = 1.54035304e-4f;
    y = y * r + 1.33335581e-3f;
    y = y * r + 9.61812911e-3f;
    y = y * r + 5.55041087e-2f;
    y = y * r + 0.240226507f;
    y = y * r + 0.693147181f;
    y = y * r + 1.0f;
    return y * std::bit_cast<float>((std::bit_cast<uint32_t>(shifted) << 23) + 0x3f800000u);
}

}  // namespace

SDCPP_VECTOR_CODE float exp2_below(float* p, int64_t count, float top) {
    std::array<float, lanes> sums{};
    int64_t i = 0;
    for (; i + lanes <= count; i += lanes)
        for (int64_t j = 0; j < lanes; ++j) {
            const float e = exp2_of(p[i + j] - top);
            p[i + j] = e;
            sums[static_cast<size_t>(j)] += e;
        }
    float sum = 0;
    for (const float part : sums) sum += part;
    for (; i < count; ++i) {
        p[i] = exp2_of(p[i] - top);
        sum += p[i];
    }
    return sum;
}

SDCPP_VECTOR_CODE float largest(const float* p, int64_t count) {
    constexpr int64_t wide = 4 * lanes;
    std::array<float, wide> tops;
    tops.fill(p[0]);
    int64_t i = 0;
    for (; i + wide <= count; i += wide)
        for (int64_t j = 0; j < wide; ++j) {
            float& top = tops[static_cast<size_t>(j)];
            top = p[i + j] > top ? p[i + j] : top;
        }
    for (; i < count; ++i) tops[0] = std::max(tops[0], p[i]);
    return *std::max_element(tops.begin(), tops.end());
}

SDCPP_VECTOR_CODE void multiply_by(float* p, int64_t count, float factor) {
    for (int64_t i = 0; i < count; ++i) p[i] *= factor;
}

void add_half(float* p, const ggml_fp16_t* other, int64_t count, float factor) {
    std::array<float, 256> wide;
    for (int64_t at = 0; at < count; at += 256) {
        const int64_t some = std::min<int64_t>(256, count - at);
        widen_f16(other + at, wide.data(), some);
        for (int64_t i = 0; i < some; ++i) p[at + i] += factor * wide[static_cast<size_t>(i)];
    }
}

SDCPP_VECTOR_CODE void apply_rope(const float* x, const float* factors, float* y, int64_t count) {
    const float *cosines = factors, *sines = factors + count;
    for (int64_t i = 0; i < count; i += 2) {
        y[i] = x[i] * cosines[i] + x[i + 1] * sines[i];
        y[i + 1] = x[i + 1] * cosines[i + 1] + x[i] * sines[i + 1];
    }
}

namespace {

constexpr int64_t chunk = 4096;  // summed in f32; chunks in f64

// The sum of x - shift, or of its square.
SDCPP_VECTOR_CODE float chunk_sum(const float* x, int64_t count, float shift, bool squared) {
    std::array<float, lanes> sums{};
    int64_t i = 0;
    for (; i + lanes <= count; i += lanes)
        for (int64_t j = 0; j < lanes; ++j) {
            const float d = x[i + j] - shift;
            sums[static_cast<size_t>(j)] += squared ? d * d : d;
        }
    float sum = 0;
    for (const float part : sums) sum += part;
    for (; i < count; ++i) sum += squared ? (x[i] - shift) * (x[i] - shift) : x[i] - shift;
    return sum;
}

double sum_of(const float* x, int64_t count, float shift, bool squared) {
    double sum = 0;
    for (int64_t at = 0; at < count; at += chunk)
        sum += static_cast<double>(chunk_sum(x + at, std::min(chunk, count - at), shift, squared));
    return sum;
}

}  // namespace

Moments moments(const float* x, int64_t count) {
    Moments out;
    const auto n = static_cast<double>(count);
    out.mean = sum_of(x, count, 0, false) / n;
    out.variance = sum_of(x, count, static_cast<float>(out.mean), true) / n;
    return out;
}

SDCPP_VECTOR_CODE void add_squares(const float* x, float* sums, int64_t count) {
    for (int64_t i = 0; i < count; ++i) sums[i] += x[i] * x[i];
}

SDCPP_VECTOR_CODE void multiply(const float* x, const float* factors, float* y, int64_t count) {
    for (int64_t i = 0; i < count; ++i) y[i] = x[i] * factors[i];
}

SDCPP_VECTOR_CODE void scale_and_shift(const float* x, float* y, int64_t count, float scale, float shift, bool silu) {
    if (!silu) {
        for (int64_t i = 0; i < count; ++i) y[i] = x[i] * scale + shift;
        return;
    }
    for (int64_t i = 0; i < count; ++i) {
        const float v = x[i] * scale + shift;
        y[i] = v / (1.0f + exp_of(-v));
    }
}

// The error function by Abramowitz and Stegun 7.1.26; absolute error below 2e-7.
SDCPP_VECTOR_CODE void gelu_gate(const float* a, const float* b, float* y, int64_t count) {
    for (int64_t i = 0; i < count; ++i) {
        const float x = b[i] * 0.707106781f, size = std::fabs(x);
        const float t = 1.0f / (1.0f + 0.3275911f * size);
        const float tail =
            ((((1.061405429f * t - 1.453152027f) * t + 1.421413741f) * t - 0.284496736f) * t + 0.254829592f) * t *
            exp_of(-size * size);
        const float below = 0.5f * tail;  // the normal distribution's share beyond size
        y[i] = a[i] * b[i] * (x < 0 ? below : 1.0f - below);
    }
}

}  // namespace sdcpp
