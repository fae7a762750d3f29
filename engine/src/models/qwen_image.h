// The transformer of Qwen-Image (Qwen team 2025): blocks of two streams, a text's and a picture's.
#pragma once

#include "models/denoiser.h"
#include "models/kept_inputs.h"

namespace sdcpp {

// Values in: "x" [N, Tx, P] patches of the latent, "time" [N, M] sinusoids, "context" [N, Tc, D] states of the text,
// "rope" [N, Tc + Tx, 2 d] the positions for apply_rope(); and, if texts of different lengths go together, "mask" [N,
// 1, Tc + Tx, Tc + Tx]. Out: "x" [N, Tx, P], the direction from the picture to the noise.
class QwenImage : public Denoiser {
  public:
    explicit QwenImage(const ModelFiles& files);

    // Residuals pass the largest f16. Queries and keys are normed, and values are made of a normed input.
    bool wide_range() const override { return true; }
    bool wide_attention() const override { return false; }
    size_t result_rank() const override { return 3; }
    int64_t in_channels() const override { return channels_; }
    int64_t out_channels() const override { return channels_; }
    int64_t multiple() const override { return patch; }
    std::vector<Taken> conditioning() const override { return {{"context", context_width_}}; }
    BlockList blocks() const override {
        return {"double_blocks", "txt_in", "final_layer", {"time_in"}, {"x", "context"}};
    }
    std::vector<Array> inputs(const Noisy& noisy) const override;
    std::vector<float> prediction(const Array& result, const Noisy& noisy) const override;

  private:
    static constexpr int64_t patch = 2;

    std::vector<Array> positions(const PatchSizes& sizes) const;

    int64_t channels_, width_, context_width_, head_, sinusoids_;
    std::vector<int> axes_;  // how many values of a head each of the three axes rotates
    mutable KeptInputs<PatchSizes> positions_;
};

}  // namespace sdcpp
