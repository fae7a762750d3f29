#include <algorithm>

#include "kernels/vector_math.h"
#include "nn/cpu_operations.h"
#include "nn/custom.h"

namespace sdcpp::cpu {
namespace {

constexpr int64_t token_block = 16;

class RotationOperation : public CpuOperation {
  public:
    RotationOperation(const Kernels& kernels, int64_t heads) : CpuOperation(kernels), heads_(heads) {}

    const char* kind() const override { return "rope"; }
    void run(const ggml_tensor* y, int64_t first, int64_t last) const override {
        const ggml_tensor *x = y->src[0], *rope = y->src[1];
        const int64_t channels = x->ne[0], size = channels / heads_, tokens = ggml_nrows(x);
        for (int64_t t = first * token_block; t < std::min(last * token_block, tokens) && !cancelled(); ++t) {
            const float* factors = static_cast<const float*>(rope->data) + t * 2 * size;
            for (int64_t head = 0; head < heads_; ++head) {
                const int64_t at = t * channels + head * size;
                sdcpp::apply_rope(static_cast<const float*>(x->data) + at, factors, static_cast<float*>(y->data) + at,
                                  size);
            }
        }
    }

  private:
    int64_t heads_;
};

}  // namespace

ggml_tensor* apply_rope(Graph& g, ggml_tensor* x, ggml_tensor* rope, int64_t heads) {
    if (!g.kernels.gemm || !plain(x) || !plain(rope)) return nullptr;
    auto operation = std::make_unique<RotationOperation>(g.kernels, heads);
    operation->units = (ggml_nrows(x) + token_block - 1) / token_block;
    operation->flops = 3.0 * static_cast<double>(ggml_nelements(x));
    return add_operation(g, std::move(operation), {x->ne[0], x->ne[1], x->ne[2], x->ne[3]}, {x, rope});
}

}  // namespace sdcpp::cpu
