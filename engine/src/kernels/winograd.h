// The transforms of Winograd's F(4x4, 3x3): a tile of 4x4 outputs of a 3x3 convolution by 36 products instead of 144.
// The points are 0, 1, -1, 2, -2 and infinity; A. Lavin and S. Gray, "Fast Algorithms for Convolutional Neural
// Networks", 2015.
#pragma once

#include <cstdint>

namespace sdcpp::winograd {

constexpr int64_t side = 4, products = 36;

// Tiles [first, first + count) of tile row `row` of a plane [height, width], which has a border of zeros of one:
// value p of tile t goes to out[p * stride + t]. `work`: work_floats(count).
void transform_input(const float* plane, int64_t height, int64_t width, int64_t row, int64_t first, int64_t count,
                     float* out, int64_t stride, float* work);
int64_t work_floats(int64_t count);

// `count` kernels of 9 values, one after the other: value p of kernel i goes to out[p * stride + i].
void transform_kernels(const float* kernels, int64_t count, float* out, int64_t stride);

// The way back, into a plane [height, width]; what passes its edges is left out. `bias` is added.
void transform_output(const float* in, int64_t stride, int64_t row, int64_t first, int64_t count, float bias,
                      float* plane, int64_t height, int64_t width, float* work);

}  // namespace sdcpp::winograd
