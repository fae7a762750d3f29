// Convolutions on devices: ggml's own operation if the device computes it fast, else matrix products, tile by tile so
// that what they take stays within a bound.
#include <algorithm>
#include <array>
#include <functional>

#include "base/error.h"
#include "nn/cpu_operations.h"
#include "nn/layer_parts.h"
#include "nn/layers.h"

namespace sdcpp {
namespace {

// What values that may pass the largest f16 are divided by; a power of two, so that nothing is rounded.
constexpr float range_scale = 256;
constexpr int64_t max_tiles = 128;  // of one picture: a graph has room for so many operations only

// Rows [first, first + count) of x [N, C, H, W] of picture `n`, with zeros for rows beyond x and for so many columns at
// either side.
ggml_tensor* rows_with_border(ggml_context* c, ggml_tensor* x, int64_t n, int64_t first, int64_t count, int columns) {
    const int64_t above = std::max<int64_t>(0, -first), below = std::max<int64_t>(0, first + count - x->ne[1]);
    const size_t offset = static_cast<size_t>(first + above) * x->nb[1] + static_cast<size_t>(n) * x->nb[3];
    ggml_tensor* rows =
        ggml_view_4d(c, x, x->ne[0], count - above - below, x->ne[2], 1, x->nb[1], x->nb[2], x->nb[3], offset);
    if (!ggml_is_contiguous(rows)) rows = ggml_cont(c, rows);
    if (above == 0 && below == 0 && columns == 0) return rows;
    return ggml_pad_ext(c, rows, columns, columns, static_cast<int>(above), static_cast<int>(below), 0, 0, 0, 0);
}

// Writes `tile` [1, C, rows, W] into `whole` [N, C, H, W] at row `first` of picture `n`.
ggml_tensor* set_rows(ggml_context* c, ggml_tensor* whole, ggml_tensor* tile, int64_t n, int64_t first) {
    const size_t offset = static_cast<size_t>(first) * whole->nb[1] + static_cast<size_t>(n) * whole->nb[3];
    return ggml_set_inplace(c, whole, tile, whole->nb[1], whole->nb[2], whole->nb[3], offset);
}

// A result of sides `ne` made tile by tile: `tile(n, first, count)` is [1, C, count, W], rows of picture n. A row takes
// `row_floats` while it is made.
ggml_tensor* in_tiles(Graph& g, const std::array<int64_t, 4>& ne, int64_t row_floats,
                      const std::function<ggml_tensor*(int64_t n, int64_t first, int64_t count)>& tile) {
    const int64_t height = ne[1], batch = ne[3];
    const auto row_bytes = static_cast<size_t>(row_floats) * sizeof(float);
    int64_t rows = std::clamp<int64_t>(static_cast<int64_t>(g.kernels.patch_bytes / row_bytes), 1, height);
    rows = std::max(rows, (height + max_tiles - 1) / max_tiles);
    ggml_tensor* out = nullptr;
    for (int64_t n = 0; n < batch; ++n) {
        for (int64_t first = 0; first < height; first += rows) {
            ggml_tensor* part = tile(n, first, std::min(rows, height - first));
            if (out)
                out = set_rows(g.context, out, part, n, first);
            else if (part->ne[1] == height && batch == 1)
                out = part;
            else  // room for all tiles
                out = ggml_pad_ext(g.context, part, 0, 0, 0, static_cast<int>(height - part->ne[1]), 0, 0, 0,
                                   static_cast<int>(batch - 1));
        }
    }
    return out;
}

}  // namespace

Conv2d::Conv2d(const Scope& scope, int64_t in, int64_t out, int kernel, int stride, int padding)
    : weight_(scope.weight("weight", WeightKind::convolution, {out, in, kernel, kernel})),
      bias_(bias_of(scope, out)),
      stride_(stride),
      padding_(padding < 0 ? kernel / 2 : padding) {}

ggml_tensor* Conv2d::operator()(Graph& g, ggml_tensor* x) const {
    if (ggml_tensor* y = cpu::convolution(g, x, weight_->tensor, tensor_of(bias_), stride_, padding_)) return y;
    ggml_tensor* w = weight_->tensor;
    const Convolution way = w->type == GGML_TYPE_F16 ? g.kernels.f16_convolution : g.kernels.f32_convolution;
    ggml_tensor* y = way == Convolution::direct ? direct(g, x) : nullptr;
    if (!y && way == Convolution::shifted && stride_ == 1) y = shifted_convolution(g, w, x, padding_);
    if (!y) y = unrolled_convolution(g, w, x, stride_, padding_);
    return bias_ ? ggml_add(g.context, y, per_channel(g, bias_)) : y;
}

// By ggml's own operation, which rounds x to the kernel's type; null if the device does not have it.
ggml_tensor* Conv2d::direct(Graph& g, ggml_tensor* x) const {
    ggml_context* c = g.context;
    ggml_tensor* w = weight_->tensor;
    const auto convolved = [&](ggml_tensor* kernel, ggml_tensor* from) {
        ggml_tensor* y = ggml_conv_2d_direct(c, kernel, from, stride_, stride_, padding_, padding_, 1, 1);
        return can(g, y) ? y : nullptr;
    };
    if (w->type != GGML_TYPE_F16 || !g.wide_range) return convolved(w, x);
    if (g.kernels.f32_convolution == Convolution::direct) return convolved(ggml_cast(c, w, GGML_TYPE_F32), x);
    ggml_tensor* y = convolved(w, ggml_scale(c, x, 1 / range_scale));
    return y ? ggml_scale(c, y, range_scale) : nullptr;
}

// Patches and sums stay f32, with which a device's matrix units lose no range (TF32 on NVIDIA's).
ggml_tensor* unrolled_convolution(Graph& g, ggml_tensor* w, ggml_tensor* x, int stride, int padding) {
    ggml_context* c = g.context;
    const int64_t kernel_w = w->ne[0], kernel_h = w->ne[1], channels = w->ne[3];
    const int64_t width = (x->ne[0] + 2 * padding - kernel_w) / stride + 1;
    const int64_t height = (x->ne[1] + 2 * padding - kernel_h) / stride + 1;
    const int64_t patch = kernel_w * kernel_h * w->ne[2];
    if (w->type != GGML_TYPE_F32) w = ggml_cast(c, w, GGML_TYPE_F32);
    ggml_tensor* flat = ggml_reshape_2d(c, w, patch, channels);
    return in_tiles(
        g, {width, height, channels, x->ne[3]}, width * patch, [&](int64_t n, int64_t first, int64_t count) {
            const bool whole = count == height;
            ggml_tensor* from =
                whole ? rows_with_border(c, x, n, 0, x->ne[1], 0)
                      : rows_with_border(c, x, n, first * stride - padding, (count - 1) * stride + kernel_h, 0);
            ggml_tensor* patches =
                ggml_im2col(c, w, from, stride, stride, padding, whole ? padding : 0, 1, 1, true, GGML_TYPE_F32);
            ggml_tensor* y = ggml_mul_mat(c, ggml_reshape_2d(c, patches, patch, width * count), flat);
            ggml_mul_mat_set_prec(y, GGML_PREC_F32);
            return ggml_reshape_4d(c, y, width, count, channels, 1);
        });
}

// With channels innermost, each place of the kernel is a plain product with the picture shifted by that place. Rows
// keep their borders, so that all of a tile is one matrix; sums that straddle two rows are left out at the end.
ggml_tensor* shifted_convolution(Graph& g, ggml_tensor* w, ggml_tensor* x, int padding) {
    ggml_context* c = g.context;
    const int64_t kernel_w = w->ne[0], kernel_h = w->ne[1], in = w->ne[2], channels = w->ne[3];
    const int64_t bordered = x->ne[0] + 2 * padding, width = bordered - kernel_w + 1;
    const int64_t height = x->ne[1] + 2 * padding - kernel_h + 1;
    const int64_t places = kernel_w * kernel_h;
    ggml_tensor* by_place = ggml_permute(c, ggml_reshape_3d(c, w, places, in, channels), 2, 0, 1, 3);
    by_place = w->type == GGML_TYPE_F32 ? ggml_cont(c, by_place) : ggml_cast(c, by_place, GGML_TYPE_F32);
    const int64_t row_floats = bordered * (2 * in + 3 * channels);
    return in_tiles(g, {width, height, channels, x->ne[3]}, row_floats, [&](int64_t n, int64_t first, int64_t count) {
        const int64_t spare = kernel_w > 1 ? 1 : 0;  // a row, for what the last shifts read past the end
        ggml_tensor* rows = rows_with_border(c, x, n, first - padding, count + kernel_h - 1 + spare, padding);
        ggml_tensor* tokens = ggml_cont(c, ggml_permute(c, rows, 1, 2, 0, 3));  // [rows, bordered, in]
        ggml_tensor* sum = nullptr;
        for (int64_t place = 0; place < places; ++place) {
            const auto shift = static_cast<size_t>(place / kernel_w * bordered + place % kernel_w);
            ggml_tensor* shifted = ggml_view_2d(c, tokens, in, bordered * count, tokens->nb[1], shift * tokens->nb[1]);
            ggml_tensor* kernel =
                ggml_view_2d(c, by_place, in, channels, by_place->nb[1], static_cast<size_t>(place) * by_place->nb[2]);
            ggml_tensor* product = ggml_mul_mat(c, kernel, shifted);
            ggml_mul_mat_set_prec(product, GGML_PREC_F32);
            sum = sum ? ggml_add(c, sum, product) : product;
        }
        const size_t column = sum->nb[1];
        ggml_tensor* inside =
            ggml_view_3d(c, sum, channels, width, count, column, column * static_cast<size_t>(bordered), 0);
        return ggml_cont(c, ggml_permute(c, inside, 2, 0, 1, 3));
    });
}

}  // namespace sdcpp
