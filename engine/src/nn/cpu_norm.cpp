#include <algorithm>
#include <array>
#include <cmath>

#include "kernels/vector_math.h"
#include "nn/cpu_operations.h"
#include "nn/custom.h"
#include "nn/layer_parts.h"

namespace sdcpp::cpu {
namespace {

class GroupNormOperation : public CpuOperation {
  public:
    GroupNormOperation(const Kernels& kernels, int64_t groups, float eps, bool silu)
        : CpuOperation(kernels), groups_(groups), eps_(eps), silu_(silu) {}

    const char* kind() const override { return "group norm"; }
    void run(const ggml_tensor* y, int64_t first, int64_t last) const override {
        const ggml_tensor* x = y->src[0];
        const auto of = [](const ggml_tensor* t) { return static_cast<float*>(t->data); };
        const int64_t plane = x->ne[0] * x->ne[1], channels = x->ne[2], width = channels / groups_;
        for (int64_t unit = first; unit < last && !cancelled(); ++unit) {
            const int64_t group = unit % groups_, start = (unit / groups_ * channels + group * width) * plane;
            const Moments m = moments(of(x) + start, width * plane);
            const auto inverse = static_cast<float>(1 / std::sqrt(m.variance + static_cast<double>(eps_)));
            for (int64_t c = 0; c < width; ++c) {
                const int64_t channel = group * width + c, at = start + c * plane;
                const float scale = of(y->src[1])[channel] * inverse;
                const float shift = of(y->src[2])[channel] - static_cast<float>(m.mean) * scale;
                scale_and_shift(of(x) + at, of(y) + at, plane, scale, shift, silu_);
            }
        }
    }

  private:
    int64_t groups_;
    float eps_;
    bool silu_;
};

// A place's channels lie a plane apart: blocks of places, whose sums stay in the cache.
class ChannelNormOperation : public CpuOperation {
  public:
    static constexpr int64_t places = 512;

    ChannelNormOperation(const Kernels& kernels, bool silu) : CpuOperation(kernels), silu_(silu) {}

    const char* kind() const override { return "channel norm"; }
    void run(const ggml_tensor* y, int64_t first, int64_t last) const override {
        const ggml_tensor* x = y->src[0];
        const int64_t plane = x->ne[0] * x->ne[1], channels = x->ne[2], of_picture = blocks(plane, places);
        for (int64_t unit = first; unit < last && !cancelled(); ++unit) {
            const int64_t begin = unit % of_picture * places, count = std::min(places, plane - begin);
            const int64_t start = unit / of_picture * channels * plane + begin;
            std::array<float, places> inverse{};
            for (int64_t c = 0; c < channels; ++c) add_squares(values(x) + start + c * plane, inverse.data(), count);
            for (float& sum : inverse) sum = 1 / std::sqrt(sum / static_cast<float>(channels) + smallest_square);
            for (int64_t c = 0; c < channels; ++c) {
                float* out = static_cast<float*>(y->data) + start + c * plane;
                multiply(values(x) + start + c * plane, inverse.data(), out, count);
                scale_and_shift(out, out, count, values(y->src[1])[c], 0, silu_);
            }
        }
    }

  private:
    bool silu_;
};

}  // namespace

ggml_tensor* channel_norm(Graph& g, ggml_tensor* x, ggml_tensor* gamma, bool silu) {
    if (!g.kernels.gemm || !plain(x)) return nullptr;
    auto operation = std::make_unique<ChannelNormOperation>(g.kernels, silu);
    operation->units = blocks(x->ne[0] * x->ne[1], ChannelNormOperation::places) * x->ne[3];
    operation->flops = 8.0 * static_cast<double>(ggml_nelements(x));
    return add_operation(g, std::move(operation), {x->ne[0], x->ne[1], x->ne[2], x->ne[3]}, {x, gamma});
}

ggml_tensor* group_norm(Graph& g, ggml_tensor* x, ggml_tensor* weight, ggml_tensor* bias, int groups, float eps,
                        bool silu) {
    if (!g.kernels.gemm || !plain(x)) return nullptr;
    auto operation = std::make_unique<GroupNormOperation>(g.kernels, groups, eps, silu);
    operation->units = groups * x->ne[3];
    operation->flops = 8.0 * static_cast<double>(ggml_nelements(x));
    return add_operation(g, std::move(operation), {x->ne[0], x->ne[1], x->ne[2], x->ne[3]}, {x, weight, bias});
}

}  // namespace sdcpp::cpu
