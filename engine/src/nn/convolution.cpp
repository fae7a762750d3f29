// Convolutions on devices: ggml's own operation if the device computes it fast, else products with unrolled patches
// (im2col). They go tile by tile, so that the patches stay within a bound.
//
// Only the rows of kernels are unrolled, and each row has a product of its own: a third of the values to copy for 3x3.
// ggml's kernel for GPUs spends its time on the places of values. The channels of a pixel lie side by side, so that a
// row of a patch is one piece: for ggml a picture of one channel, C times as wide.
#include <algorithm>

#include "nn/cpu_operations.h"
#include "nn/layer_parts.h"
#include "nn/layers.h"

namespace sdcpp {
namespace {

// Divides values that may pass the largest f16. A power of two, so that nothing is rounded.
constexpr float range_scale = 256;
constexpr int64_t max_tiles = 256;  // A convolution has no more: a graph has room for so many operations only.

constexpr size_t most_offset = size_t{1} << 30;  // ggml_set takes none from here on

// Rows [first, first + count) of picture n of x [N, C, H, W], channels last: [1, 1, count, W C]. Rows beyond x are
// zeros.
ggml_tensor* channels_last(ggml_context* c, ggml_tensor* x, int64_t n, int64_t first, int64_t count) {
    const int64_t above = std::max<int64_t>(0, -first), below = std::max<int64_t>(0, first + count - x->ne[1]);
    const int64_t width = x->ne[0], channels = x->ne[2], rows = count - above - below;
    const size_t offset = static_cast<size_t>(first + above) * x->nb[1] + static_cast<size_t>(n) * x->nb[3];
    ggml_tensor* y = ggml_view_3d(c, x, width, rows, channels, x->nb[1], x->nb[2], offset);
    if (!ggml_is_contiguous(y)) y = ggml_cont(c, y);
    y = ggml_cont(c, ggml_transpose(c, ggml_reshape_2d(c, y, width * rows, channels)));
    y = ggml_reshape_2d(c, y, channels * width, rows);
    if (above == 0 && below == 0) return y;
    return ggml_pad_ext(c, y, 0, 0, static_cast<int>(above), static_cast<int>(below), 0, 0, 0, 0);
}

// Kernels w [out, in, h, w] of any type as f32 [out, 1, h, w in].
ggml_tensor* channels_last(ggml_context* c, ggml_tensor* w) {
    const int64_t kernel_w = w->ne[0], kernel_h = w->ne[1], in = w->ne[2], out = w->ne[3];
    w = ggml_reshape_3d(c, w, kernel_w * kernel_h, in, out);
    w = ggml_cont(c, ggml_permute(c, w, 1, 0, 2, 3));
    if (w->type != GGML_TYPE_F32) w = ggml_cast(c, w, GGML_TYPE_F32);
    return ggml_reshape_4d(c, w, in * kernel_w, kernel_h, 1, out);
}

// Writes `tile` [1, C, rows, W] into `whole` [N, C, H, W] at row `first` of picture `n`.
ggml_tensor* set_rows(ggml_context* c, ggml_tensor* whole, ggml_tensor* tile, int64_t n, int64_t first) {
    const size_t offset = static_cast<size_t>(first) * whole->nb[1] + static_cast<size_t>(n) * whole->nb[3];
    return ggml_set_inplace(c, whole, tile, whole->nb[1], whole->nb[2], whole->nb[3], offset);
}

}  // namespace

Conv2d::Conv2d(const Scope& scope, int64_t in, int64_t out, int kernel, int stride, int padding)
    : weight_(scope.weight("weight", WeightKind::convolution, {out, in, kernel, kernel})),
      bias_(bias_of(scope, out)),
      stride_(stride),
      padding_(padding < 0 ? kernel / 2 : padding) {}

ggml_tensor* Conv2d::operator()(Graph& g, ggml_tensor* x) const {
    require_input(weight_, weight_->tensor->ne[2], x->ne[2]);
    if (ggml_tensor* y = cpu::convolution(g, x, weight_->tensor, tensor_of(bias_), stride_, padding_)) return y;
    ggml_tensor* y = direct(g, x);
    if (!y) y = unrolled_convolution(g, weight_->tensor, x, stride_, padding_);
    return bias_ ? ggml_add(g.context, y, per_channel(g, bias_)) : y;
}

// By ggml's own operation, which rounds x to the kernel's type; null if the device has no fast one.
ggml_tensor* Conv2d::direct(Graph& g, ggml_tensor* x) const {
    ggml_context* c = g.context;
    ggml_tensor* w = weight_->tensor;
    const bool f16 = w->type == GGML_TYPE_F16, keep_range = f16 && g.wide_range;
    const auto convolved = [&](ggml_tensor* kernel, ggml_tensor* from) {
        ggml_tensor* y = ggml_conv_2d_direct(c, kernel, from, stride_, stride_, padding_, padding_, 1, 1);
        return can(g, y) ? y : nullptr;
    };
    if ((!f16 || keep_range) && g.kernels.direct_convolution_f32)
        return convolved(f16 ? ggml_cast(c, w, GGML_TYPE_F32) : w, x);
    if (!f16 || !g.kernels.direct_convolution_f16) return nullptr;
    if (!keep_range) return convolved(w, x);
    ggml_tensor* y = convolved(w, ggml_scale(c, x, 1 / range_scale));
    return y ? ggml_scale(c, y, range_scale) : nullptr;
}

// Patches and sums stay f32, with which a device's matrix units lose no range (TF32 on NVIDIA's).
ggml_tensor* unrolled_convolution(Graph& g, ggml_tensor* w, ggml_tensor* x, int stride, int padding) {
    ggml_context* c = g.context;
    const int64_t kernel_w = w->ne[0], kernel_h = w->ne[1], in = w->ne[2], channels = w->ne[3], batch = x->ne[3];
    const int64_t width = (x->ne[0] + 2 * padding - kernel_w) / stride + 1;
    const int64_t height = (x->ne[1] + 2 * padding - kernel_h) / stride + 1;
    if (const auto picture = static_cast<size_t>(width * height * channels) * sizeof(float);
        batch > 1 && picture * static_cast<size_t>(batch) >= most_offset) {
        const auto pictures = [&](int64_t first, int64_t count) {
            return ggml_view_4d(c, x, x->ne[0], x->ne[1], x->ne[2], count, x->nb[1], x->nb[2], x->nb[3],
                                static_cast<size_t>(first) * x->nb[3]);
        };
        ggml_tensor* some = unrolled_convolution(g, w, pictures(0, batch / 2), stride, padding);
        ggml_tensor* rest = unrolled_convolution(g, w, pictures(batch / 2, batch - batch / 2), stride, padding);
        return ggml_concat(c, some, rest, 3);
    }
    // one product for each row of the kernel, or one for all if rows are left out
    const int64_t products = stride == 1 ? kernel_h : 1, patch = kernel_w * in * (kernel_h / products);
    const auto row_bytes = static_cast<size_t>(width * (patch + products * channels)) * sizeof(float);
    const int64_t least = (height * batch + max_tiles - 1) / max_tiles;
    const int64_t rows = std::min(height, std::max(least, static_cast<int64_t>(g.kernels.patch_bytes / row_bytes)));

    w = channels_last(c, w);
    ggml_tensor* shape =
        ggml_view_4d(c, w, w->ne[0], kernel_h / products, 1, channels, w->nb[1], w->nb[2], w->nb[3], 0);
    const auto across = [&](int pixels) { return static_cast<int>(pixels * in); };
    const auto tile = [&](int64_t n, int64_t first, int64_t count) {  // [1, channels, count, width]
        ggml_tensor* patches = channels_last(c, x, n, first * stride - padding, (count - 1) * stride + kernel_h);
        if (kernel_w > 1 || stride > 1 || padding > 0)
            patches =
                ggml_im2col(c, shape, patches, across(stride), stride, across(padding), 0, 1, 1, true, GGML_TYPE_F32);
        ggml_tensor* sum = nullptr;
        for (int64_t row = 0; row < products; ++row) {
            const size_t row_size = static_cast<size_t>(patch) * sizeof(float);
            ggml_tensor* pixels =
                ggml_view_2d(c, patches, patch, width * count, row_size, static_cast<size_t>(row * width) * row_size);
            ggml_tensor* kernel = ggml_view_2d(c, w, patch, channels, w->nb[3], static_cast<size_t>(row) * w->nb[1]);
            ggml_tensor* y = ggml_mul_mat(c, pixels, kernel);
            sum_in_f32(y);
            sum = sum ? ggml_add(c, sum, y) : y;
        }
        return ggml_reshape_4d(c, sum, width, count, channels, 1);
    };
    ggml_tensor* out = nullptr;
    for (int64_t n = 0; n < batch; ++n) {
        for (int64_t first = 0; first < height; first += rows) {
            ggml_tensor* part = tile(n, first, std::min(rows, height - first));
            if (out)
                out = set_rows(c, out, part, n, first);
            else if (part->ne[1] == height && batch == 1)
                out = part;
            else  // room for all tiles
                out = ggml_pad_ext(c, part, 0, 0, 0, static_cast<int>(height - part->ne[1]), 0, 0, 0,
                                   static_cast<int>(batch - 1));
        }
    }
    return out;
}

}  // namespace sdcpp
