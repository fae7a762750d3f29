#include <algorithm>

#include "nn/cpu_operations.h"
#include "nn/custom.h"
#include "nn/vector_math.h"
#include "nn/winograd.h"

namespace sdcpp::cpu {
namespace {

int64_t blocks(int64_t total, int64_t block) { return (total + block - 1) / block; }
// Blocks of at most about `most`, equal as far as can be, so that few threads share them evenly where there are
// `others` of each.
int64_t even_block(int64_t total, int64_t most, int64_t others) {
    int64_t count = blocks(total, most);
    while (count * others < 16 && count * others % 4 != 0 && total > 64 * count) ++count;
    return blocks(blocks(total, count), 16) * 16;
}

const float* values(const ggml_tensor* t) { return static_cast<const float*>(t->data); }

struct Shape {
    int64_t in, height, width, images;   // of x
    int64_t out, out_height, out_width;  // of y
    int64_t kernel_width, kernel_height, stride, padding;
    int64_t taps() const { return kernel_width * kernel_height; }
};

class ConvolutionOperation : public CpuOperation {
  public:
    ConvolutionOperation(const Kernels& kernels, const Shape& shape) : CpuOperation(kernels), s(shape) {
        flops = 2.0 * static_cast<double>(s.out * s.out_height * s.out_width * s.images) *
                static_cast<double>(s.in * s.taps());
    }

  protected:
    // The kernels of output channel `channel` over input channels [first, first + count).
    void kernels_of(const ggml_tensor* w, int64_t channel, int64_t first, int64_t count, float* out) const {
        const auto element = static_cast<int64_t>(ggml_type_size(w->type));
        const auto* start = static_cast<const std::byte*>(w->data) + (channel * s.in + first) * s.taps() * element;
        widen(w->type, start, out, count * s.taps());
    }
    float bias_of(const ggml_tensor* y, int64_t channel) const { return y->src[2] ? values(y->src[2])[channel] : 0; }

    const Shape s;
};

// The pixels under the kernel's taps as the columns of a matrix, a block of pixels and input channels at a time.
class ProductConvolution : public ConvolutionOperation {
  public:
    static constexpr int64_t pixel_block = 512, out_block = 128, depth = 512;

    ProductConvolution(const Kernels& kernels, const Shape& shape) : ConvolutionOperation(kernels, shape) {
        pixel_blocks_ = blocks(s.out_height * s.out_width, pixel_block);
        out_group_ = even_block(s.out, out_block, pixel_blocks_);
        units = s.images * pixel_blocks_ * blocks(s.out, out_group_);
    }

    const char* kind() const override { return "convolution"; }
    void run(const ggml_tensor* y, int64_t first, int64_t last) const override {
        const ggml_tensor *w = y->src[0], *x = y->src[1];
        const int64_t pixels = s.out_height * s.out_width, plane = s.height * s.width;
        const int64_t groups = blocks(s.out, out_group_);
        const int64_t channels = std::max<int64_t>(1, depth / s.taps());  // at a time
        const bool as_it_is = s.taps() == 1 && s.stride == 1 && s.padding == 0;
        const auto columns_size = static_cast<size_t>(as_it_is ? 0 : channels * s.taps() * pixel_block);
        const auto panel_size = static_cast<size_t>(out_group_ * channels * s.taps());
        Gemm::Scratch scratch(gemm, columns_size + panel_size);
        float *columns = scratch.take(columns_size), *panel = scratch.take(panel_size);
        for (int64_t unit = first; unit < last; ++unit) {
            const int64_t group = unit % groups * out_group_, image = unit / groups / pixel_blocks_;
            const int64_t from = unit / groups % pixel_blocks_ * pixel_block;
            const int64_t count = std::min(pixel_block, pixels - from);
            const int64_t until = std::min(group + out_group_, s.out);
            float* target = static_cast<float*>(y->data) + image * s.out * pixels + from;
            for (int64_t o = group; o < until; ++o) std::fill_n(target + o * pixels, count, bias_of(y, o));
            for (int64_t c = 0; c < s.in; c += channels) {
                if (cancelled()) return;
                const int64_t some = std::min(channels, s.in - c);
                const float* source = values(x) + (image * s.in + c) * plane;
                if (!as_it_is) gather(source, some, from, count, columns);
                const int64_t outs = until - group, row = some * s.taps();
                for (int64_t i = 0; i < outs; ++i) kernels_of(w, group + i, c, some, panel + i * row);
                gemm.multiply(false, outs, count, row, 1, panel, row, as_it_is ? source + from : columns,
                              as_it_is ? plane : pixel_block, 1, target + group * pixels, pixels);
            }
        }
    }

  private:
    // What lies under each tap for output pixels [from, from + count), for `channels` planes.
    void gather(const float* source, int64_t channels, int64_t from, int64_t count, float* out) const {
        for (int64_t c = 0; c < channels; ++c) {
            const float* plane = source + c * s.height * s.width;
            for (int64_t tap = 0; tap < s.taps(); ++tap, out += pixel_block) {
                const int64_t down = tap / s.kernel_width - s.padding, right = tap % s.kernel_width - s.padding;
                for (int64_t p = from; p < from + count;) {
                    const int64_t line = p / s.out_width, start = p % s.out_width;
                    const int64_t length = std::min(s.out_width - start, from + count - p);
                    const int64_t row = line * s.stride + down;
                    float* to = out + (p - from);
                    if (row < 0 || row >= s.height)
                        std::fill_n(to, length, 0.0f);
                    else
                        copy_line(plane + row * s.width, start * s.stride + right, length, to);
                    p += length;
                }
            }
        }
    }
    void copy_line(const float* row, int64_t at, int64_t length, float* to) const {
        if (s.stride == 1 && at >= 0 && at + length <= s.width) {
            std::copy_n(row + at, length, to);
            return;
        }
        for (int64_t i = 0; i < length; ++i, at += s.stride) to[i] = at >= 0 && at < s.width ? row[at] : 0.0f;
    }

    int64_t pixel_blocks_ = 0, out_group_ = 0;
};

// 3x3 with stride 1: tiles of 4x4 outputs, by 36 products over the input channels.
class WinogradConvolution : public ConvolutionOperation {
  public:
    static constexpr int64_t tile_block = 128, out_group = 160, depth = 512;
    static constexpr int64_t fewest_tiles = 12;  // of an image; with fewer, transforming the kernels is all the work
    static constexpr int64_t products = winograd::products;

    static bool pays(const Shape& s) {
        return s.kernel_width == 3 && s.kernel_height == 3 && s.stride == 1 && s.padding == 1 && s.in >= 16 &&
               blocks(s.height, winograd::side) * blocks(s.width, winograd::side) >= fewest_tiles;
    }

    WinogradConvolution(const Kernels& kernels, const Shape& shape)
        : ConvolutionOperation(kernels, shape),
          lines_(blocks(s.height, winograd::side)),
          line_(blocks(s.width, winograd::side)),
          tile_blocks_(blocks(lines_ * line_, tile_block)),
          out_group_(even_block(s.out, out_group, tile_blocks_)),
          groups_(blocks(s.out, out_group_)) {
        units = s.images * tile_blocks_ * groups_;
    }

    const char* kind() const override { return "convolution (Winograd)"; }
    // Units: images, of those groups of output channels, of those blocks of tiles; so the transformed kernels of a
    // group often serve the next unit, too.
    void run(const ggml_tensor* y, int64_t first, int64_t last) const override {
        const ggml_tensor *w = y->src[0], *x = y->src[1];
        const int64_t channels = std::min(depth, s.in), widest = std::min(out_group_, s.out);
        const auto input_size = static_cast<size_t>(products * channels * tile_block);
        const auto kernel_size = static_cast<size_t>(products * widest * channels);
        const auto sums_size = static_cast<size_t>(products * widest * tile_block);
        const auto raw_size = static_cast<size_t>(channels * 9);
        const auto work_size = static_cast<size_t>(winograd::work_floats(tile_block));
        Gemm::Scratch scratch(gemm, input_size + kernel_size + sums_size + raw_size + work_size);
        float *input = scratch.take(input_size), *kernels = scratch.take(kernel_size), *sums = scratch.take(sums_size),
              *raw = scratch.take(raw_size), *work = scratch.take(work_size);
        int64_t held_group = -1, held_channel = -1;
        for (int64_t unit = first; unit < last; ++unit) {
            const int64_t from = unit % tile_blocks_ * tile_block, group = unit / tile_blocks_ % groups_ * out_group_;
            const int64_t image = unit / tile_blocks_ / groups_;
            const int64_t count = std::min(tile_block, lines_ * line_ - from);
            const int64_t outs = std::min(out_group_, s.out - group);
            for (int64_t c = 0; c < s.in; c += channels) {
                if (cancelled()) return;
                const int64_t some = std::min(channels, s.in - c);
                for (int64_t i = 0; i < some; ++i)
                    each_line(from, count, [&](int64_t line, int64_t start, int64_t length, int64_t at) {
                        winograd::transform_input(values(x) + (image * s.in + c + i) * s.height * s.width, s.height,
                                                  s.width, line, start, length, input + i * count + at, some * count,
                                                  work);
                    });
                if (held_group != group || held_channel != c) {
                    for (int64_t i = 0; i < outs; ++i) {
                        kernels_of(w, group + i, c, some, raw);
                        winograd::transform_kernels(raw, some, kernels + i * some, outs * some);
                    }
                    held_group = group;
                    held_channel = c;
                }
                for (int64_t p = 0; p < products; ++p)
                    gemm.multiply(false, outs, count, some, 1, kernels + p * outs * some, some,
                                  input + p * some * count, count, c > 0 ? 1.0f : 0.0f, sums + p * outs * count, count);
            }
            for (int64_t o = 0; o < outs; ++o)
                each_line(from, count, [&](int64_t line, int64_t start, int64_t length, int64_t at) {
                    float* plane = static_cast<float*>(y->data) + (image * s.out + group + o) * s.height * s.width;
                    winograd::transform_output(sums + o * count + at, outs * count, line, start, length,
                                               bias_of(y, group + o), plane, s.height, s.width, work);
                });
        }
    }

  private:
    // Tiles [from, from + count) as runs within lines of tiles.
    template <typename Visit>
    void each_line(int64_t from, int64_t count, Visit visit) const {
        for (int64_t tile = from; tile < from + count;) {
            const int64_t start = tile % line_, length = std::min(line_ - start, from + count - tile);
            visit(tile / line_, start, length, tile - from);
            tile += length;
        }
    }

    int64_t lines_, line_, tile_blocks_, out_group_, groups_;
};

}  // namespace

ggml_tensor* convolution(Graph& g, ggml_tensor* x, ggml_tensor* w, ggml_tensor* bias, int stride, int padding) {
    if (!g.kernels.gemm || !plain(x) || ggml_blck_size(w->type) != 1) return nullptr;
    const auto reach = [&](int64_t side, int64_t kernel) { return (side + 2 * padding - kernel) / stride + 1; };
    const Shape s{
        x->ne[2], x->ne[1], x->ne[0], x->ne[3], w->ne[3], reach(x->ne[1], w->ne[1]), reach(x->ne[0], w->ne[0]),
        w->ne[0], w->ne[1], stride,   padding};
    std::unique_ptr<CpuOperation> operation;
    if (WinogradConvolution::pays(s))
        operation = std::make_unique<WinogradConvolution>(g.kernels, s);
    else
        operation = std::make_unique<ProductConvolution>(g.kernels, s);
    return add_operation(g, std::move(operation), {s.out_width, s.out_height, s.out, s.images}, {w, x, bias});
}

}  // namespace sdcpp::cpu
