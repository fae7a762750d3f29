#include <algorithm>
#include <cstddef>
#include <limits>

#include "nn/cpu_operations.h"
#include "nn/custom.h"
#include "nn/vector_math.h"

namespace sdcpp::cpu {
namespace {

constexpr int64_t query_block = 128, key_block = 1024;
constexpr int64_t fewest_queries = 32;

// Blocks of keys one after the other, the sums so far scaled down where a later block has a larger score.
class AttentionOperation : public CpuOperation {
  public:
    AttentionOperation(const Kernels& kernels, int64_t heads, float scale)
        : CpuOperation(kernels), heads_(heads), scale_(scale) {}

    const char* kind() const override { return "attention"; }
    void run(const ggml_tensor* out, int64_t first, int64_t last) const override {
        const ggml_tensor *q = out->src[0], *k = out->src[1], *v = out->src[2];
        const ggml_tensor* mask = out->src[3];
        const int64_t channels = q->ne[0], size = channels / heads_, queries = q->ne[1], keys = k->ne[1];
        const int64_t key_channels = k->ne[0], sharing = channels / key_channels;
        const int64_t query_blocks = (queries + query_block - 1) / query_block;
        const auto of = [](const ggml_tensor* t) { return static_cast<float*>(t->data); };
        Gemm::Scratch scratch(gemm, static_cast<size_t>(query_block * (key_block + 2)));
        float *scores = scratch.take(static_cast<size_t>(query_block * key_block)),
              *tops = scratch.take(static_cast<size_t>(query_block)),
              *sums = scratch.take(static_cast<size_t>(query_block));
        for (int64_t unit = first; unit < last; ++unit) {
            const int64_t from = unit % query_blocks * query_block, head = unit / query_blocks % heads_;
            const int64_t image = unit / query_blocks / heads_;
            const int64_t rows = std::min(query_block, queries - from);
            const int64_t at = head * size;
            const float* query = of(q) + (image * queries + from) * channels + at;
            float* target = of(out) + (image * queries + from) * channels + at;
            for (int64_t key = 0; key < keys; key += key_block) {
                if (cancelled()) return;
                const int64_t some = std::min(key_block, keys - key);
                const int64_t start = (image * keys + key) * key_channels + head / sharing * size;
                gemm.multiply(true, rows, some, size, scale_, query, channels, of(k) + start, key_channels, 0, scores,
                              some);
                for (int64_t r = 0; r < rows; ++r) {
                    float* line = scores + r * some;
                    if (mask) {
                        const auto* bytes = static_cast<const std::byte*>(mask->data);
                        bytes += static_cast<size_t>(from + r) * mask->nb[1];
                        bytes += static_cast<size_t>(image % mask->ne[3]) * mask->nb[3];
                        add_half(line, reinterpret_cast<const ggml_fp16_t*>(bytes) + key, some);
                    }
                    const float top = std::max(largest(line, some), std::numeric_limits<float>::lowest());
                    if (key == 0) {
                        tops[r] = top;
                        sums[r] = exp_below(line, some, top);
                        continue;
                    }
                    if (top > tops[r]) {
                        float smaller = tops[r];
                        exp_below(&smaller, 1, top);
                        sums[r] *= smaller;
                        multiply_by(target + r * channels, size, smaller);
                        tops[r] = top;
                    }
                    sums[r] += exp_below(line, some, tops[r]);
                }
                gemm.multiply(false, rows, size, some, 1, scores, some, of(v) + start, key_channels,
                              key > 0 ? 1.0f : 0.0f, target, channels);
            }
            for (int64_t r = 0; r < rows; ++r) multiply_by(target + r * channels, size, 1 / sums[r]);
        }
    }

  private:
    int64_t heads_;
    float scale_;
};

}  // namespace

ggml_tensor* attention(Graph& g, ggml_tensor* q, ggml_tensor* k, ggml_tensor* v, int64_t heads, float scale,
                       ggml_tensor* mask) {
    if (!g.kernels.gemm || q->ne[1] < fewest_queries || !plain(q) || !plain(k) || !plain(v)) return nullptr;
    auto operation = std::make_unique<AttentionOperation>(g.kernels, heads, scale);
    operation->units = (q->ne[1] + query_block - 1) / query_block * heads * q->ne[2];
    operation->flops = 4.0 * static_cast<double>(ggml_nelements(q)) * static_cast<double>(k->ne[1]);
    return add_operation(g, std::move(operation), {q->ne[0], q->ne[1], q->ne[2], q->ne[3]}, {q, k, v, mask});
}

}  // namespace sdcpp::cpu
