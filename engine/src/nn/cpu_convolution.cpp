#include <algorithm>

#include "kernels/vector_math.h"
#include "kernels/winograd.h"
#include "nn/cpu_operations.h"
#include "nn/custom.h"

namespace sdcpp::cpu {
namespace {

struct Shape {
    int64_t in, height, width, images;   // x
    int64_t out, out_height, out_width;  // y
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
    static constexpr int64_t pixel_block = 512, out_block = 128, depth = 256;

    ProductConvolution(const Kernels& kernels, const Shape& shape) : ConvolutionOperation(kernels, shape) {
        pixel_blocks_ = blocks(s.out_height * s.out_width, pixel_block);
        out_group_ = even_block(s.out, out_block, pixel_blocks_);
        units = s.images * pixel_blocks_ * blocks(s.out, out_group_);
    }

    const char* kind() const override { return "convolution"; }
    int64_t scratch_floats(int64_t) const override { return Sizes(gemm.large(), s, out_group_).all(); }

    void run(const ggml_tensor* y, int64_t first, int64_t last) const override {
        const ggml_tensor *w = y->src[0], *x = y->src[1];
        const int64_t pixels = s.out_height * s.out_width, plane = s.height * s.width;
        const int64_t groups = blocks(s.out, out_group_);
        const GemmKernels& products = gemm.large();
        const Sizes sizes(products, s, out_group_);
        const int64_t channels = sizes.channels, line_size = sizes.line;
        const bool as_it_is = sizes.columns == 0;
        const bool as_they_are = products.pair() == 1;  // kernels
        Gemm::Scratch scratch(gemm, sizes.all());
        float *columns = scratch.take(sizes.columns), *line = scratch.take(sizes.deep);
        GemmKernels::Unit *packed = scratch.take_units(sizes.packed), *panel = scratch.take_units(sizes.panel);
        for (int64_t unit = first; unit < last;) {
            // All groups of one block of pixels that are this thread's.
            const int64_t some_groups = std::min(groups - unit % groups, last - unit);
            const int64_t start = unit % groups * out_group_, image = unit / groups / pixel_blocks_;
            const int64_t until = std::min(start + some_groups * out_group_, s.out);
            const int64_t from = unit / groups % pixel_blocks_ * pixel_block;
            const int64_t count = std::min(pixel_block, pixels - from);
            float* target = static_cast<float*>(y->data) + image * s.out * pixels + from;
            for (int64_t o = start; o < until; ++o) std::fill_n(target + o * pixels, count, bias_of(y, o));
            for (int64_t c = 0; c < s.in; c += channels) {
                const int64_t some = std::min(channels, s.in - c), depth_here = some * s.taps();
                const float* source = values(x) + (image * s.in + c) * plane;
                if (!as_it_is) gather(source, some, from, count, columns);
                products.pack(as_it_is ? source + from : columns, as_it_is ? plane : pixel_block, depth_here, count,
                              packed);
                for (int64_t group = start; group < until; group += out_group_) {
                    if (cancelled()) return;
                    const int64_t outs = std::min(out_group_, until - group);
                    for (int64_t o = 0; o < outs; ++o) {
                        GemmKernels::Unit* row = panel + o * line_size;
                        float* wide = as_they_are ? reinterpret_cast<float*>(row) : line;
                        kernels_of(w, group + o, c, some, wide);
                        if (!as_they_are) products.convert(line, depth_here, row);
                    }
                    products.multiply(outs, count, products.units(depth_here), panel, line_size, packed,
                                      target + group * pixels, pixels, nullptr, true);
                }
            }
            unit += some_groups;
        }
    }

  private:
    // A thread's working memory: values under the taps (none if x can be read directly), packed values, a group's
    // kernels as units, one kernel as f32.
    struct Sizes {
        int64_t channels, deep;  // channels at a time; their taps
        int64_t line, columns, packed, panel;
        int64_t all() const { return columns + packed + panel + deep; }

        Sizes(const GemmKernels& products, const Shape& s, int64_t outs)
            : channels(std::max<int64_t>(1, depth / s.taps())),
              deep(channels * s.taps()),
              line(GemmKernels::apart(products.units(deep))),
              columns(s.taps() == 1 && s.stride == 1 && s.padding == 0 ? 0 : deep * pixel_block),
              packed(products.packed(deep, pixel_block)),
              panel(outs * line) {}
    };

    // The values under each tap for output pixels [from, from + count), for `channels` planes.
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
    static constexpr int64_t tile_block = 96, out_group = 160, depth = 512;
    // If a block holds all tiles, kernels are used once: as many at a time as the cache holds when transformed.
    static constexpr int64_t few_tiles_group = 48, few_tiles_depth = 128;
    static constexpr int64_t min_tiles = 12;  // an image's; with fewer, transforming the kernels is all the work
    static constexpr int64_t products = winograd::products;

    static bool pays(const Shape& s) {
        return s.kernel_width == 3 && s.kernel_height == 3 && s.stride == 1 && s.padding == 1 && s.in >= 16 &&
               blocks(s.height, winograd::side) * blocks(s.width, winograd::side) >= min_tiles;
    }

    WinogradConvolution(const Kernels& kernels, const Shape& shape)
        : ConvolutionOperation(kernels, shape),
          lines_(blocks(s.height, winograd::side)),
          line_(blocks(s.width, winograd::side)),
          tile_blocks_(blocks(lines_ * line_, tile_block)),
          out_group_(tile_blocks_ == 1 ? few_tiles_group : even_block(s.out, out_group, tile_blocks_)),
          groups_(blocks(s.out, out_group_)) {
        units = s.images * tile_blocks_ * groups_;
    }

    const char* kind() const override { return "convolution (Winograd)"; }
    int64_t scratch_floats(int64_t of_units) const override { return sizes(of_units).all(); }

    void run(const ggml_tensor* y, int64_t first, int64_t last) const override {
        if (tile_blocks_ == 1)
            run_few_tiles(y, first, last);
        else
            run_many_tiles(y, first, last);
    }

  private:
    // One unit for each group of output channels of each image.
    void run_few_tiles(const ggml_tensor* y, int64_t first, int64_t last) const {
        Work work(gemm, sizes(last - first));
        const int64_t tiles = work.z.tiles, channels = work.z.channels;
        for (int64_t unit = first; unit < last;) {
            // All groups of one image that are this thread's.
            const int64_t some_groups = std::min(groups_ - unit % groups_, last - unit);
            const int64_t start = unit % groups_ * out_group_, image = unit / groups_;
            const int64_t until = std::min(start + some_groups * out_group_, s.out), outs = until - start;
            for (int64_t c = 0; c < s.in; c += channels) {
                const int64_t some = std::min(channels, s.in - c);
                transform_inputs(y, image, c, some, 0, tiles, work);
                for (int64_t group = start; group < until; group += out_group_) {
                    if (cancelled()) return;
                    const int64_t here = std::min(out_group_, until - group);
                    transform_group(y, group, here, c, some, work);
                    multiply(here, some, tiles, c > 0, work.sums + (group - start) * tiles, spread(outs * tiles), work);
                }
            }
            transform_outputs(y, image, start, outs, 0, tiles, work);
            unit += some_groups;
        }
    }

    // One unit for each block of tiles of each group of output channels of each image. So a group's transformed kernels
    // often serve the next unit, too.
    void run_many_tiles(const ggml_tensor* y, int64_t first, int64_t last) const {
        Work work(gemm, sizes(last - first));
        const int64_t channels = work.z.channels;
        int64_t held_group = -1, held_channel = -1;
        for (int64_t unit = first; unit < last; ++unit) {
            const int64_t from = unit % tile_blocks_ * tile_block, group = unit / tile_blocks_ % groups_ * out_group_;
            const int64_t image = unit / tile_blocks_ / groups_;
            const int64_t count = std::min(tile_block, lines_ * line_ - from);
            const int64_t outs = std::min(out_group_, s.out - group);
            for (int64_t c = 0; c < s.in; c += channels) {
                if (cancelled()) return;
                const int64_t some = std::min(channels, s.in - c);
                transform_inputs(y, image, c, some, from, count, work);
                if (held_group != group || held_channel != c) transform_group(y, group, outs, c, some, work);
                held_group = group;
                held_channel = c;
                multiply(outs, some, count, c > 0, work.sums, spread(outs * count), work);
            }
            transform_outputs(y, image, group, outs, from, count, work);
        }
    }

    // Between the values of one product and the next: the 36 are written side by side, and must not all fall into the
    // same few lines of a cache.
    static int64_t spread(int64_t values) { return values + 16; }

    // A thread's working memory: packed input [36, channels, tiles], kernels [36, outs, channels], sums [36, all outs,
    // tiles].
    struct Sizes {
        int64_t channels, tiles, apart;  // at a time; between kernels of output channels
        int64_t input, kernels, sums;    // sizes for one product
        int64_t all() const { return products * (input + kernels + sums + tiles) + channels * 9 + transform(); }
        int64_t transform() const { return winograd::work_floats(tiles); }

        Sizes(const GemmKernels& exact, int64_t in_channels, int64_t outs, int64_t all_outs, int64_t count)
            : channels(in_channels),
              tiles(count),
              apart(GemmKernels::apart(channels)),
              input(spread(exact.packed(channels, tiles))),
              kernels(outs * apart),
              sums(spread(all_outs * tiles)) {}
    };
    Sizes sizes(int64_t of_units) const {
        if (tile_blocks_ > 1)
            return {gemm.f32(), std::min(depth, s.in), out_group_, std::min(out_group_, s.out), tile_block};
        return {gemm.f32(), std::min(few_tiles_depth, s.in), out_group_, std::min(of_units * out_group_, s.out),
                lines_ * line_};
    }
    struct Work {
        Work(const Gemm& gemm, const Sizes& sizes)
            : z(sizes),
              scratch(gemm, z.all()),
              input(scratch.take_units(products * z.input)),
              kernels(scratch.take(products * z.kernels)),
              sums(scratch.take(products * z.sums)),
              line(scratch.take(products * z.tiles)),
              raw(scratch.take(z.channels * 9)),
              transform(scratch.take(z.transform())) {}

        Sizes z;
        Gemm::Scratch scratch;
        GemmKernels::Unit* input;
        float *kernels, *sums, *line, *raw, *transform;
    };

    void transform_inputs(const ggml_tensor* y, int64_t image, int64_t channel, int64_t channels, int64_t from,
                          int64_t count, Work& work) const {
        const float* x = values(y->src[1]);
        for (int64_t i = 0; i < channels; ++i)
            each_line(from, count, [&](int64_t line, int64_t start, int64_t length, int64_t at) {
                winograd::transform_input(x + (image * s.in + channel + i) * s.height * s.width, s.height, s.width,
                                          line, start, length, work.line, length, work.transform);
                gemm.f32().place(work.line, length, products, i, at, length, channels, count, work.input, work.z.input);
            });
    }

    void transform_group(const ggml_tensor* y, int64_t group, int64_t outs, int64_t channel, int64_t channels,
                         Work& work) const {
        for (int64_t i = 0; i < outs; ++i) {
            kernels_of(y->src[0], group + i, channel, channels, work.raw);
            winograd::transform_kernels(work.raw, channels, work.kernels + i * work.z.apart, outs * work.z.apart);
        }
    }

    // Sums of product p begin at sums + p * stride.
    void multiply(int64_t outs, int64_t channels, int64_t tiles, bool add, float* sums, int64_t stride,
                  Work& work) const {
        const GemmKernels& exact = gemm.f32();
        for (int64_t p = 0; p < products; ++p)
            exact.multiply(outs, tiles, channels,
                           reinterpret_cast<const GemmKernels::Unit*>(work.kernels + p * outs * work.z.apart),
                           work.z.apart, work.input + p * work.z.input, sums + p * stride, tiles, nullptr, add);
    }

    void transform_outputs(const ggml_tensor* y, int64_t image, int64_t channel, int64_t outs, int64_t from,
                           int64_t count, Work& work) const {
        for (int64_t o = 0; o < outs; ++o)
            each_line(from, count, [&](int64_t line, int64_t start, int64_t length, int64_t at) {
                float* plane = static_cast<float*>(y->data) + (image * s.out + channel + o) * s.height * s.width;
                winograd::transform_output(work.sums + o * count + at, spread(outs * count), line, start, length,
                                           bias_of(y, channel + o), plane, s.height, s.width, work.transform);
            });
    }

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
