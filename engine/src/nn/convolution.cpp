// Convolutions on devices: ggml's own operation if the device computes it fast, else products with unrolled patches
// (im2col). They go tile by tile, so that the patches stay within a bound.
#include <algorithm>

#include "nn/cpu_operations.h"
#include "nn/layer_parts.h"
#include "nn/layers.h"

namespace sdcpp {
namespace {

// Divides values that may pass the largest f16. A power of two, so that nothing is rounded.
constexpr float range_scale = 256;
constexpr int64_t max_tiles = 512;  // A picture has no more: a graph has room for so many operations only.

// Rows [first, first + count) of x [N, C, H, W] of picture `n`, and as many zero rows above and below as reach beyond
// x.
ggml_tensor* rows_with_border(ggml_context* c, ggml_tensor* x, int64_t n, int64_t first, int64_t count) {
    const int64_t above = std::max<int64_t>(0, -first), below = std::max<int64_t>(0, first + count - x->ne[1]);
    const size_t offset = static_cast<size_t>(first + above) * x->nb[1] + static_cast<size_t>(n) * x->nb[3];
    ggml_tensor* rows =
        ggml_view_4d(c, x, x->ne[0], count - above - below, x->ne[2], 1, x->nb[1], x->nb[2], x->nb[3], offset);
    if (above == 0 && below == 0) return ggml_is_contiguous(rows) ? rows : ggml_cont(c, rows);
    return ggml_pad_ext(c, ggml_cont(c, rows), 0, 0, static_cast<int>(above), static_cast<int>(below), 0, 0, 0, 0);
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
    const int64_t kernel_w = w->ne[0], kernel_h = w->ne[1], channels = w->ne[3], batch = x->ne[3];
    const int64_t width = (x->ne[0] + 2 * padding - kernel_w) / stride + 1;
    const int64_t height = (x->ne[1] + 2 * padding - kernel_h) / stride + 1;
    const int64_t patch = kernel_w * kernel_h * w->ne[2];
    const auto row_bytes = static_cast<size_t>(width * patch) * sizeof(float);
    int64_t rows = std::clamp<int64_t>(static_cast<int64_t>(g.kernels.patch_bytes / row_bytes), 1, height);
    rows = std::max(rows, (height + max_tiles - 1) / max_tiles);

    if (w->type != GGML_TYPE_F32) w = ggml_cast(c, w, GGML_TYPE_F32);
    ggml_tensor* flat = ggml_reshape_2d(c, w, patch, channels);
    const auto tile = [&](int64_t n, int64_t first, int64_t count) {  // [1, channels, count, width]
        const bool whole = count == height;
        ggml_tensor* from = whole
                                ? rows_with_border(c, x, n, 0, x->ne[1])
                                : rows_with_border(c, x, n, first * stride - padding, (count - 1) * stride + kernel_h);
        ggml_tensor* patches =
            ggml_im2col(c, w, from, stride, stride, padding, whole ? padding : 0, 1, 1, true, GGML_TYPE_F32);
        ggml_tensor* y = ggml_mul_mat(c, ggml_reshape_2d(c, patches, patch, width * count), flat);
        sum_in_f32(y);
        return ggml_reshape_4d(c, y, width, count, channels, 1);
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
