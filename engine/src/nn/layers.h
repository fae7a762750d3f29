// The layers networks are made of: thin builders over ggml that hold their weights and know their checkpoint names.
#pragma once

#include "nn/graph.h"
#include "weights/weight.h"

namespace sdcpp {

// y = x W^T + b over the innermost side: [..., in] to [..., out]. The bias is used if the file has one.
class Linear {
  public:
    Linear(const Scope& scope, int64_t in, int64_t out, WeightKind kind = WeightKind::matrix);
    ggml_tensor* operator()(Graph& g, ggml_tensor* x) const;
    int64_t out() const { return weight_->shape[0]; }

  private:
    const Weight* weight_;
    const Weight* bias_ = nullptr;
};

// [N, in, H, W] to [N, out, H', W'].
class Conv2d {
  public:
    Conv2d(const Scope& scope, int64_t in, int64_t out, int kernel = 3, int stride = 1, int padding = -1);
    ggml_tensor* operator()(Graph& g, ggml_tensor* x) const;

  private:
    ggml_tensor* direct(Graph& g, ggml_tensor* x) const;

    const Weight* weight_;
    const Weight* bias_ = nullptr;
    int stride_, padding_;
};

// x [N, in, H, W] and kernels w [out, in, h, w] of any type to f32 [N, out, H', W'], as products with unrolled patches.
ggml_tensor* unrolled_convolution(Graph& g, ggml_tensor* w, ggml_tensor* x, int stride, int padding);

class GroupNorm {
  public:
    GroupNorm(const Scope& scope, int64_t channels, int groups, float eps);
    ggml_tensor* operator()(Graph& g, ggml_tensor* x) const;  // [N, C, H, W]
    ggml_tensor* silu(Graph& g, ggml_tensor* x) const;        // and then y * sigmoid(y)

  private:
    ggml_tensor* apply(Graph& g, ggml_tensor* x, bool silu) const;

    const Weight *weight_, *bias_;
    int groups_;
    float eps_;
};

class LayerNorm {
  public:
    LayerNorm(const Scope& scope, int64_t channels, float eps = 1e-5f);
    ggml_tensor* operator()(Graph& g, ggml_tensor* x) const;  // [..., C]

  private:
    const Weight *weight_, *bias_;
    float eps_;
};

// y = x / rms(x) * (weight + offset) over the innermost side (Zhang & Sennrich 2019). Some models store weights less
// one.
class RmsNorm {
  public:
    RmsNorm(const Scope& scope, int64_t channels, float eps, float offset = 0);
    ggml_tensor* operator()(Graph& g, ggml_tensor* x) const;  // [..., C]

  private:
    const Weight* weight_;
    float eps_, offset_;
};

// y = x / rms(x) * gamma over the channels of [N, C, H, W]. silu(): and then y * sigmoid(y).
class ChannelNorm {
  public:
    ChannelNorm(const Scope& scope, int64_t channels);
    ggml_tensor* operator()(Graph& g, ggml_tensor* x) const;
    ggml_tensor* silu(Graph& g, ggml_tensor* x) const;

  private:
    ggml_tensor* apply(Graph& g, ggml_tensor* x, bool silu) const;

    const Weight* gamma_;
};

// softmax(q k^T / sqrt(d)) v over heads of size d = C / heads that lie side by side: q [N, Tq, C], k and v [N, Tk, C'].
// C' may hold fewer heads; consecutive heads of q then share each (grouped queries, Ainslie et al. 2023). `mask` null
// or f16 [Tq, Tk] or [N, 1, Tq, Tk], added to the scores. Uses the device's flash kernel if it has one for the head
// size, else tiles of bounded size.
ggml_tensor* attention(Graph& g, ggml_tensor* q, ggml_tensor* k, ggml_tensor* v, int64_t heads,
                       ggml_tensor* mask = nullptr);

// [N, C, H, W] to [N, H*W, C] and back.
ggml_tensor* to_tokens(Graph& g, ggml_tensor* x);
ggml_tensor* from_tokens(Graph& g, ggml_tensor* tokens, int64_t width, int64_t height);

// Rotary position embedding (Su et al. 2021) of neighbouring pairs of each head's values: x [N, T, C]. `rope` [N, T, 2
// d] holds the cosines that a head's d values are multiplied with, then the sines that their neighbours are multiplied
// with. The sine for the first of a pair is negative.
ggml_tensor* apply_rope(Graph& g, ggml_tensor* x, ggml_tensor* rope, int64_t heads);

// The first half of x's innermost side times gelu of the second.
ggml_tensor* geglu(Graph& g, ggml_tensor* x);

// x / 2 * (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) (Hendrycks & Gimpel 2016), in f32.
ggml_tensor* gelu_tanh(Graph& g, ggml_tensor* x);

// Twice the size, nearest neighbour.
ggml_tensor* upsample(Graph& g, ggml_tensor* x);

}  // namespace sdcpp
