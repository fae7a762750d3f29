#include <algorithm>

#include "kernels/vector_math.h"
#include "nn/cpu_operations.h"
#include "nn/custom.h"

namespace sdcpp::cpu {
namespace {

constexpr int64_t min_rows = 16;  // with fewer, reading the weights is all the work
constexpr int64_t row_block = 512, out_block = 256;
constexpr int64_t depth = 256;     // a product's; whole blocks of every quantized type
constexpr int64_t row_group = 96;  // rows that go through all depths together

// A thread's working memory.
struct Sizes {
    int64_t apart;                  // distance between x's rows, in units
    int64_t panel, group, widened;  // packed weights; rows of x as units (0 if x is read directly); f32
    int64_t all() const { return panel + group + widened; }

    Sizes(const GemmKernels& products, int64_t in, int64_t outs)
        : apart(GemmKernels::apart(products.units(in))),
          panel(products.packed(depth, outs) * blocks(in, depth)),
          group(products.pair() == 1 && apart == in ? 0 : row_group * apart),
          widened(outs * depth) {}
};

class LinearOperation : public CpuOperation {
  public:
    LinearOperation(const Kernels& kernels, int64_t in, int64_t out, int64_t rows, int64_t images)
        : CpuOperation(kernels),
          in_(in),
          row_blocks_(blocks(rows, row_block)),
          outs_(even_block(out, out_block, row_blocks_)) {
        units = images * row_blocks_ * blocks(out, outs_);
    }
    const char* kind() const override { return "linear"; }

    int64_t scratch_floats(int64_t) const override { return Sizes(gemm.large(), in_, outs_).all(); }

    // One unit for each block of rows of each block of outputs of each image.
    void run(const ggml_tensor* y, int64_t first, int64_t last) const override {
        const GemmKernels& products = gemm.large();
        const ggml_tensor *w = y->src[0], *x = y->src[1], *bias = y->src[2];
        const int64_t in = in_, out = w->ne[1], rows = x->ne[1];
        const int64_t out_blocks = blocks(out, outs_);
        const Sizes sizes(products, in, outs_);
        Gemm::Scratch scratch(gemm, sizes.all());
        GemmKernels::Unit *panel = scratch.take_units(sizes.panel), *group = scratch.take_units(sizes.group);
        float* widened = scratch.take(sizes.widened);
        int64_t held = -1;
        for (int64_t unit = first; unit < last && !cancelled(); ++unit) {
            const int64_t from_row = unit % row_blocks_ * row_block, block = unit / row_blocks_ % out_blocks;
            const int64_t image = unit / row_blocks_ / out_blocks;
            const int64_t from = block * outs_, count = std::min(outs_, out - from);
            const int64_t until = std::min(from_row + row_block, rows);
            if (held != block) pack_weights(products, w, from, count, panel, widened);
            held = block;
            for (int64_t row = from_row; row < until; row += row_group) {
                const int64_t some = std::min(row_group, until - row);
                const float* source = values(x) + (image * rows + row) * in;
                const auto* taken = reinterpret_cast<const GemmKernels::Unit*>(source);
                if (sizes.group > 0) {
                    for (int64_t r = 0; r < some; ++r) products.convert(source + r * in, in, group + r * sizes.apart);
                    taken = group;
                }
                float* target = static_cast<float*>(y->data) + (image * rows + row) * out + from;
                for (int64_t k = 0; k < in; k += depth)
                    products.multiply(some, count, products.units(std::min(depth, in - k)), taken + products.units(k),
                                      sizes.apart, panel + products.packed(k, count), target, out,
                                      bias ? values(bias) + from : nullptr, k > 0);
            }
        }
    }

  private:
    // Outputs [from, from + count) for each depth in turn.
    static void pack_weights(const GemmKernels& products, const ggml_tensor* w, int64_t from, int64_t count,
                             GemmKernels::Unit* panel, float* widened) {
        const int64_t in = w->ne[0];
        for (int64_t k = 0; k < in; k += depth, panel += products.packed(depth, count)) {
            const int64_t deep = std::min(depth, in - k);
            if (w->type == GGML_TYPE_F32) {
                products.pack_transposed(values(w) + from * in + k, in, deep, count, panel);
                continue;
            }
            for (int64_t i = 0; i < count; ++i) {
                const auto* row = static_cast<const std::byte*>(w->data) + static_cast<size_t>(from + i) * w->nb[1];
                widen(w->type, row + ggml_row_size(w->type, k), widened + i * depth, deep);
            }
            products.pack_transposed(widened, depth, deep, count, panel);
        }
    }

    int64_t in_, row_blocks_, outs_;
};

}  // namespace

ggml_tensor* linear(Graph& g, ggml_tensor* x, ggml_tensor* w, ggml_tensor* bias) {
    if (!g.kernels.gemm || x->ne[1] < min_rows || !plain(x)) return nullptr;
    auto operation = std::make_unique<LinearOperation>(g.kernels, w->ne[0], w->ne[1], x->ne[1], x->ne[2] * x->ne[3]);
    operation->flops = 2.0 * static_cast<double>(ggml_nelements(x)) * static_cast<double>(w->ne[1]);
    return add_operation(g, std::move(operation), {w->ne[1], x->ne[1], x->ne[2], x->ne[3]}, {w, x, bias});
}

}  // namespace sdcpp::cpu
