// The multimodal diffusion transformer of Stable Diffusion 3 and 3.5 (Esser et al. 2024, "Scaling rectified flow
// transformers").
#pragma once

#include "models/denoiser.h"

namespace sdcpp {

// Values in: "x" [N, C, h, w] the latent, "places" [Tx, W] a learned vector for each patch, "time" [N, M] sinusoids,
// "pooled" [N, D'] and "context" [N, Tc, D] of the text. Out: "x" [N, Tx, P], the direction from the picture to the
// noise.
class Sd3 : public Denoiser {
  public:
    explicit Sd3(const ModelFiles& files);

    bool wide_range() const override { return true; }
    bool wide_attention() const override { return false; }  // values are made of a normed input
    size_t result_rank() const override { return 3; }
    int64_t in_channels() const override { return channels_; }
    int64_t out_channels() const override { return channels_; }
    int64_t multiple() const override { return patch; }
    std::vector<Taken> conditioning() const override {
        return {{"context", context_width_}, {"pooled", pooled_width_}};
    }
    BlockList blocks() const override {
        return {"joint_blocks", "context_embedder", "final_layer", {"embedders"}, {"x", "context"}};
    }
    std::vector<Array> inputs(const Noisy& noisy) const override;
    std::vector<float> prediction(const Array& result, const Noisy& noisy) const override;

  private:
    static constexpr int64_t patch = 2;

    int64_t channels_, width_, context_width_, pooled_width_, head_, sinusoids_;
    int64_t side_ = 0;                // the learned places are a square of this side
    const Weight* places_ = nullptr;  // they stay in the file; a picture takes those of the square's middle
    mutable Array taken_;             // The last run's, for the next one of the same sizes.
    mutable int64_t rows_ = 0, columns_ = 0;
};

}  // namespace sdcpp
