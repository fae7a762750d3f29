#include <algorithm>

#include "kernels/vector_math.h"
#include "nn/cpu_operations.h"
#include "nn/custom.h"

namespace sdcpp::cpu {
namespace {

constexpr int64_t row_block = 16;

class GegluOperation : public CpuOperation {
  public:
    using CpuOperation::CpuOperation;

    const char* kind() const override { return "gelu gate"; }
    void run(const ggml_tensor* y, int64_t first, int64_t last) const override {
        const int64_t width = y->ne[0], rows = ggml_nrows(y);
        const auto* x = static_cast<const float*>(y->src[0]->data);
        for (int64_t row = first * row_block; row < std::min(last * row_block, rows) && !cancelled(); ++row) {
            const float* values = x + 2 * row * width;
            gelu_gate(values, values + width, static_cast<float*>(y->data) + row * width, width);
        }
    }
};

}  // namespace

ggml_tensor* geglu(Graph& g, ggml_tensor* x) {
    if (!g.kernels.gemm || !plain(x)) return nullptr;
    auto operation = std::make_unique<GegluOperation>(g.kernels);
    operation->units = (ggml_nrows(x) + row_block - 1) / row_block;
    operation->flops = 10.0 * static_cast<double>(ggml_nelements(x));
    return add_operation(g, std::move(operation), {x->ne[0] / 2, x->ne[1], x->ne[2], x->ne[3]}, {x});
}

}  // namespace sdcpp::cpu
