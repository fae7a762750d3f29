#include <algorithm>

#include "nn/cpu_operations.h"
#include "nn/custom.h"
#include "nn/vector_math.h"

namespace sdcpp::cpu {
namespace {

constexpr int64_t fewest_rows = 16;  // with fewer, reading the weights is all the work
constexpr int64_t row_block = 512, out_block = 128;

const float* values(const ggml_tensor* t) { return static_cast<const float*>(t->data); }

class LinearOperation : public CpuOperation {
  public:
    using CpuOperation::CpuOperation;
    const char* kind() const override { return "linear"; }

    // Units: images, of those blocks of outputs, of those blocks of rows.
    void run(const ggml_tensor* y, int64_t first, int64_t last) const override {
        const ggml_tensor *w = y->src[0], *x = y->src[1], *bias = y->src[2];
        const int64_t in = w->ne[0], out = w->ne[1], rows = x->ne[1];
        const int64_t row_blocks = (rows + row_block - 1) / row_block, out_blocks = (out + out_block - 1) / out_block;
        Gemm::Scratch scratch(gemm, static_cast<size_t>(out_block * in));
        float* widened = scratch.take(static_cast<size_t>(out_block * in));
        int64_t held = -1;
        for (int64_t unit = first; unit < last && !cancelled(); ++unit) {
            const int64_t from_row = unit % row_blocks * row_block, block = unit / row_blocks % out_blocks;
            const int64_t image = unit / row_blocks / out_blocks;
            const int64_t from = block * out_block, count = std::min(out_block, out - from);
            const int64_t row_count = std::min(row_block, rows - from_row);
            const float* panel = widened;
            if (w->type == GGML_TYPE_F32) {
                panel = values(w) + from * in;
            } else if (held != block) {
                const auto* start = static_cast<const std::byte*>(w->data) + static_cast<size_t>(from) * w->nb[1];
                widen(w->type, start, widened, count * in);
                held = block;
            }
            const float* source = values(x) + (image * rows + from_row) * in;
            float* target = static_cast<float*>(y->data) + (image * rows + from_row) * out + from;
            if (bias)
                for (int64_t r = 0; r < row_count; ++r) std::copy_n(values(bias) + from, count, target + r * out);
            gemm.multiply(true, row_count, count, in, 1, source, in, panel, in, bias ? 1.0f : 0.0f, target, out);
        }
    }
};

}  // namespace

ggml_tensor* linear(Graph& g, ggml_tensor* x, ggml_tensor* w, ggml_tensor* bias) {
    if (!g.kernels.gemm || x->ne[1] < fewest_rows || !plain(x)) return nullptr;
    auto operation = std::make_unique<LinearOperation>(g.kernels);
    const int64_t images = x->ne[2] * x->ne[3];
    operation->units = images * ((x->ne[1] + row_block - 1) / row_block) * ((w->ne[1] + out_block - 1) / out_block);
    operation->flops = 2.0 * static_cast<double>(ggml_nelements(x)) * static_cast<double>(w->ne[1]);
    return add_operation(g, std::move(operation), {w->ne[1], x->ne[1], x->ne[2], x->ne[3]}, {w, x, bias});
}

}  // namespace sdcpp::cpu
