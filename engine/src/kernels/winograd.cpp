#include "kernels/winograd.h"

#include <algorithm>

#include "base/vector.h"

namespace sdcpp::winograd {
namespace {

constexpr int64_t reach = side + 2;  // a tile's inputs along a side

// B^T d for six values.
struct Six {
    float v[6];
};
inline Six input_side(float a, float b, float c, float d, float e, float f) {
    const float ce = e - 4 * c, bd = d - 4 * b, ec = e - c, db = 2 * (d - b);
    return {{4 * a - 5 * c + e, ce + bd, ce - bd, ec + db, ec - db, 4 * b - 5 * d + f}};
}

struct Four {
    float v[4];
};
inline Four output_side(float a, float b, float c, float d, float e, float f) {
    const float plus = b + c, minus = b - c, plus2 = d + e, minus2 = d - e;
    return {{a + plus + plus2, minus + 2 * minus2, plus + 4 * plus2, minus + 8 * minus2 + f}};
}

// G g for three values.
inline Six kernel_side(float a, float b, float c) {
    const float even = a + c, wide = a + 4 * c;
    return {{a * (1 / 4.0f), (even + b) * (-1 / 6.0f), (even - b) * (-1 / 6.0f), (wide + 2 * b) * (1 / 24.0f),
             (wide - 2 * b) * (1 / 24.0f), c}};
}

// Down the columns of six rows.
SDCPP_VECTOR_CODE void input_columns(const float* const* rows, float* const* out, int64_t count) {
    const float *a = rows[0], *b = rows[1], *c = rows[2], *d = rows[3], *e = rows[4], *f = rows[5];
    float *o0 = out[0], *o1 = out[1], *o2 = out[2], *o3 = out[3], *o4 = out[4], *o5 = out[5];
    SDCPP_INDEPENDENT
    for (int64_t i = 0; i < count; ++i) {
        const Six s = input_side(a[i], b[i], c[i], d[i], e[i], f[i]);
        o0[i] = s.v[0];
        o1[i] = s.v[1];
        o2[i] = s.v[2];
        o3[i] = s.v[3];
        o4[i] = s.v[4];
        o5[i] = s.v[5];
    }
}

// Every fourth value of `row`, from four starts.
SDCPP_VECTOR_CODE void split(const float* row, float* p0, float* p1, float* p2, float* p3, int64_t count) {
    SDCPP_INDEPENDENT
    for (int64_t i = 0; i < count; ++i) {
        p0[i] = row[4 * i];
        p1[i] = row[4 * i + 1];
        p2[i] = row[4 * i + 2];
        p3[i] = row[4 * i + 3];
    }
}

SDCPP_VECTOR_CODE void join(const float* p0, const float* p1, const float* p2, const float* p3, float* row,
                            int64_t count) {
    SDCPP_INDEPENDENT
    for (int64_t i = 0; i < count; ++i) {
        row[4 * i] = p0[i];
        row[4 * i + 1] = p1[i];
        row[4 * i + 2] = p2[i];
        row[4 * i + 3] = p3[i];
    }
}

SDCPP_VECTOR_CODE void output_columns(const float* in, int64_t stride, float* out, int64_t out_stride, int64_t count,
                                      float bias) {
    const float *a = in, *b = in + stride, *c = in + 2 * stride, *d = in + 3 * stride, *e = in + 4 * stride,
                *f = in + 5 * stride;
    float *o0 = out, *o1 = out + out_stride, *o2 = out + 2 * out_stride, *o3 = out + 3 * out_stride;
    SDCPP_INDEPENDENT
    for (int64_t i = 0; i < count; ++i) {
        const Four s = output_side(a[i], b[i], c[i], d[i], e[i], f[i]);
        o0[i] = s.v[0] + bias;
        o1[i] = s.v[1] + bias;
        o2[i] = s.v[2] + bias;
        o3[i] = s.v[3] + bias;
    }
}

SDCPP_VECTOR_CODE void kernel_columns(const float* in, int64_t stride, float* out, int64_t out_stride, int64_t count) {
    const float *a = in, *b = in + stride, *c = in + 2 * stride;
    float *o0 = out, *o1 = out + out_stride, *o2 = out + 2 * out_stride, *o3 = out + 3 * out_stride,
          *o4 = out + 4 * out_stride, *o5 = out + 5 * out_stride;
    SDCPP_INDEPENDENT
    for (int64_t i = 0; i < count; ++i) {
        const Six s = kernel_side(a[i], b[i], c[i]);
        o0[i] = s.v[0];
        o1[i] = s.v[1];
        o2[i] = s.v[2];
        o3[i] = s.v[3];
        o4[i] = s.v[4];
        o5[i] = s.v[5];
    }
}

}  // namespace

int64_t work_floats(int64_t count) { return (reach + 4) * (4 * count + 8) + 4 * (count + 2); }

void transform_input(const float* plane, int64_t height, int64_t width, int64_t row, int64_t first, int64_t count,
                     float* out, int64_t stride, float* work) {
    // Rows of 4 * count + 4 values that start one before the first tile; zeros outside the plane.
    const int64_t length = 4 * count + 4, left = 4 * first - 1, top = 4 * row - 1;
    const int64_t from = std::max<int64_t>(left, 0), until = std::min(left + 4 * count + 2, width);
    const int64_t pitch = 4 * count + 8;
    float* transformed[reach];
    for (int64_t r = 0; r < reach; ++r) {
        transformed[r] = work + r * pitch;
        std::fill_n(transformed[r], from - left, 0.0f);
        std::fill(transformed[r] + (until - left), transformed[r] + length, 0.0f);
    }
    float* zeros = work + reach * pitch;
    std::fill_n(zeros, pitch, 0.0f);
    const float* rows[reach];
    float* targets[reach];
    for (int64_t r = 0; r < reach; ++r) {
        const bool inside = top + r >= 0 && top + r < height;
        rows[r] = inside ? plane + (top + r) * width + from : zeros;
        targets[r] = transformed[r] + (from - left);
    }
    input_columns(rows, targets, until - from);

    float* parts = work + (reach + 1) * pitch;
    float* part[4];
    for (int64_t c = 0; c < 4; ++c) part[c] = parts + c * (count + 2);
    for (int64_t r = 0; r < reach; ++r) {
        split(transformed[r], part[0], part[1], part[2], part[3], count + 1);
        const float* columns[reach] = {part[0], part[1], part[2], part[3], part[0] + 1, part[1] + 1};
        float* target[reach];
        for (int64_t c = 0; c < reach; ++c) target[c] = out + (r * reach + c) * stride;
        input_columns(columns, target, count);
    }
}

void transform_kernels(const float* kernels, int64_t count, float* out, int64_t stride) {
    constexpr int64_t block = 64;
    float taps[9 * block], columns[3 * reach * block];
    for (int64_t first = 0; first < count; first += block) {
        const int64_t some = std::min(block, count - first);
        for (int64_t i = 0; i < some; ++i)
            for (int64_t tap = 0; tap < 9; ++tap) taps[tap * block + i] = kernels[9 * (first + i) + tap];
        for (int64_t c = 0; c < 3; ++c)
            kernel_columns(taps + c * block, 3 * block, columns + c * block, 3 * block, some);
        for (int64_t r = 0; r < reach; ++r)
            kernel_columns(columns + 3 * r * block, block, out + r * reach * stride + first, stride, some);
    }
}

void transform_output(const float* in, int64_t stride, int64_t row, int64_t first, int64_t count, float bias,
                      float* plane, int64_t height, int64_t width, float* work) {
    // Down the columns first: 4 rows of 6 values a tile.
    const int64_t pitch = count + 2;
    float* columns = work;                    // [4][6][pitch]
    float* parts = work + 4 * reach * pitch;  // [4][pitch]
    for (int64_t c = 0; c < reach; ++c)
        output_columns(in + c * stride, reach * stride, columns + c * pitch, reach * pitch, count, 0);
    const int64_t left = 4 * first, inside = std::min(4 * count, width - left);
    float* whole = parts + 4 * pitch;  // a row that passes the plane's edge
    for (int64_t r = 0; r < 4 && 4 * row + r < height; ++r) {
        output_columns(columns + r * reach * pitch, pitch, parts, pitch, count, bias);
        float* target = plane + (4 * row + r) * width + left;
        const bool fits = inside == 4 * count;
        join(parts, parts + pitch, parts + 2 * pitch, parts + 3 * pitch, fits ? target : whole, count);
        if (!fits) std::copy_n(whole, inside, target);
    }
}

}  // namespace sdcpp::winograd
