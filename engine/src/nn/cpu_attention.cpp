#include <algorithm>
#include <cstddef>
#include <limits>

#include "kernels/vector_math.h"
#include "nn/cpu_operations.h"
#include "nn/custom.h"

namespace sdcpp::cpu {
namespace {

constexpr int64_t query_block = 240, key_block = 512;
constexpr int64_t query_group = 48;  // whose scores are held at once
constexpr int64_t min_queries = 32;
constexpr float log2_e = 1.44269504f;  // scores are in powers of two

// A thread's working memory: rows of queries, scores and shares, in units; packed keys and values.
struct Sizes {
    int64_t size, query, scores, shares, k_panel, v_panel;
    int64_t all() const {
        return query_block * (query + 2) + query_group * (scores + shares) + k_panel + v_panel + size;
    }

    Sizes(const GemmKernels& products, int64_t head)
        : size(head),
          query(products.units(head)),
          scores(GemmKernels::apart(key_block)),
          shares(GemmKernels::apart(products.units(key_block))),
          k_panel(products.packed(head, key_block)),
          v_panel(products.packed(key_block, head)) {}
};

// Takes blocks of keys one after the other. If a later block has a larger score, the sums so far are scaled down.
class AttentionOperation : public CpuOperation {
  public:
    AttentionOperation(const Kernels& kernels, int64_t heads, int64_t size, float scale)
        : CpuOperation(kernels), heads_(heads), size_(size), scale_(scale) {}
    const char* kind() const override { return "attention"; }

    int64_t scratch_floats(int64_t) const override { return Sizes(gemm.large(), size_).all(); }

    // One unit for each block of queries of each head of each image.
    void run(const ggml_tensor* out, int64_t first, int64_t last) const override {
        const GemmKernels& products = gemm.large();
        const ggml_tensor *q = out->src[0], *k = out->src[1], *v = out->src[2];
        const int64_t channels = q->ne[0], size = size_, queries = q->ne[1], keys = k->ne[1];
        const int64_t key_channels = k->ne[0], sharing = channels / key_channels;
        const int64_t query_blocks = blocks(queries, query_block);
        const bool as_they_are = products.pair() == 1;
        const Sizes z(products, size);
        const auto of = [](const ggml_tensor* t) { return static_cast<float*>(t->data); };
        Gemm::Scratch scratch(gemm, z.all());
        GemmKernels::Unit *asked = scratch.take_units(query_block * z.query), *k_panel = scratch.take_units(z.k_panel),
                          *v_panel = scratch.take_units(z.v_panel),
                          *shares = scratch.take_units(query_group * z.shares);
        float *scores = scratch.take(query_group * z.scores), *tops = scratch.take(query_block),
              *sums = scratch.take(query_block), *line = scratch.take(size);
        for (int64_t unit = first; unit < last; ++unit) {
            const int64_t from = unit % query_blocks * query_block, head = unit / query_blocks % heads_;
            const int64_t image = unit / query_blocks / heads_;
            const int64_t rows = std::min(query_block, queries - from);
            const float* query = of(q) + (image * queries + from) * channels + head * size;
            float* target = of(out) + (image * queries + from) * channels + head * size;
            for (int64_t r = 0; r < rows; ++r) {
                std::copy_n(query + r * channels, size, line);
                multiply_by(line, size, scale_ * log2_e);
                products.convert(line, size, asked + r * z.query);
            }
            for (int64_t key = 0; key < keys; key += key_block) {
                if (cancelled()) return;
                const int64_t some = std::min(key_block, keys - key);
                const int64_t start = (image * keys + key) * key_channels + head / sharing * size;
                products.pack_transposed(of(k) + start, key_channels, size, some, k_panel);
                products.pack(of(v) + start, key_channels, some, size, v_panel);
                for (int64_t row = 0; row < rows; row += query_group) {
                    const int64_t count = std::min(query_group, rows - row);
                    products.multiply(count, some, z.query, asked + row * z.query, z.query, k_panel, scores, z.scores,
                                      nullptr, false);
                    for (int64_t r = 0; r < count; ++r) {
                        float* line_of = scores + r * z.scores;
                        add_mask(out->src[3], image, from + row + r, key, some, line_of);
                        take_in(line_of, some, key == 0, tops[row + r], sums[row + r], target + (row + r) * channels,
                                size);
                        if (!as_they_are) products.convert(line_of, some, shares + r * z.shares);
                    }
                    products.multiply(count, size, products.units(some),
                                      as_they_are ? reinterpret_cast<const GemmKernels::Unit*>(scores) : shares,
                                      z.shares, v_panel, target + row * channels, channels, nullptr, key > 0);
                }
            }
            for (int64_t r = 0; r < rows; ++r) multiply_by(target + r * channels, size, 1 / sums[r]);
        }
    }

  private:
    static void add_mask(const ggml_tensor* mask, int64_t image, int64_t query, int64_t key, int64_t count,
                         float* scores) {
        if (!mask) return;
        const auto* bytes = static_cast<const std::byte*>(mask->data);
        bytes += static_cast<size_t>(query) * mask->nb[1] + static_cast<size_t>(image % mask->ne[3]) * mask->nb[3];
        add_half(scores, reinterpret_cast<const ggml_fp16_t*>(bytes) + key, count, log2_e);
    }

    // Scores become exponentials below the largest so far; `target`, a sum over earlier keys, is scaled to match.
    static void take_in(float* scores, int64_t count, bool first, float& top, float& sum, float* target, int64_t size) {
        const float own = std::max(largest(scores, count), std::numeric_limits<float>::lowest());
        if (first) {
            top = own;
            sum = exp2_below(scores, count, top);
            return;
        }
        if (own > top) {
            float smaller = top;
            exp2_below(&smaller, 1, own);
            sum *= smaller;
            multiply_by(target, size, smaller);
            top = own;
        }
        sum += exp2_below(scores, count, top);
    }

    int64_t heads_, size_;
    float scale_;
};

}  // namespace

ggml_tensor* attention(Graph& g, ggml_tensor* q, ggml_tensor* k, ggml_tensor* v, int64_t heads, float scale,
                       ggml_tensor* mask) {
    if (!g.kernels.gemm || q->ne[1] < min_queries || !plain(q) || !plain(k) || !plain(v)) return nullptr;
    auto operation = std::make_unique<AttentionOperation>(g.kernels, heads, q->ne[0] / heads, scale);
    operation->units = blocks(q->ne[1], query_block) * heads * q->ne[2];
    operation->flops = 4.0 * static_cast<double>(ggml_nelements(q)) * static_cast<double>(k->ne[1]);
    return add_operation(g, std::move(operation), {q->ne[0], q->ne[1], q->ne[2], q->ne[3]}, {q, k, v, mask});
}

}  // namespace sdcpp::cpu
