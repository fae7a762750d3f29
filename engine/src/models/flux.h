// The multimodal diffusion transformer of FLUX.1 (Black Forest Labs 2024): blocks of two streams, then of one. Chroma
// (Lodestone Rock 2025) is the same without layers of modulation: a small network makes all modulations.
#pragma once

#include "models/denoiser.h"
#include "models/kept_inputs.h"

namespace sdcpp {

// Values in: "x" [N, Tx, P] patches of the latent, "time" and, if it was distilled to take it, "guidance" [N, 256]
// sinusoids, "pooled" [N, D'] and "context" [N, Tc, D] of the text, "rope" [N, Tc + Tx, 2 d] the positions for
// apply_rope(), and "mask" [N, 1, Tc + Tx, Tc + Tx] if texts of different lengths go together. Chroma has no "pooled",
// and "time" [N, slots, M]. Out: "x" [N, Tx, P], the direction from the picture to the noise.
class Flux : public Denoiser {
  public:
    explicit Flux(const ModelFiles& files);

    // Residuals pass the largest f16. Queries and keys are normed, and values are made of a normed input.
    bool wide_range() const override { return true; }
    bool wide_attention() const override { return false; }
    size_t result_rank() const override { return 3; }
    int64_t in_channels() const override { return in_channels_; }
    int64_t out_channels() const override { return out_channels_; }
    int64_t multiple() const override { return patch; }
    std::vector<Taken> conditioning() const override {
        if (pooled_width_ == 0) return {{"context", context_width_}};
        return {{"context", context_width_}, {"pooled", pooled_width_}};
    }
    bool takes_guidance() const override { return guided_; }
    bool takes_references() const override { return true; }
    BlockList blocks() const override {
        return {"double_blocks", "txt_in", "final_layer", modulated_by_, {"x", "context"}};
    }
    std::vector<Array> inputs(const Noisy& noisy) const override;
    std::vector<float> prediction(const Array& result, const Noisy& noisy) const override;

  private:
    static constexpr int64_t patch = 2;

    void embedder_stage(const Scope& s);
    void slot_stages(const Scope& s);
    Array slot_inputs(std::span<const float> timesteps) const;

    int64_t in_channels_, out_channels_, width_, context_width_, pooled_width_, head_, sinusoids_, slots_ = 0;
    bool guided_;
    std::vector<std::string> modulated_by_;  // stages
    std::vector<int> axes_;                  // how many values of a head each of the three axes rotates
    double theta_;
    mutable KeptInputs<PictureSizes> rope_;
};

}  // namespace sdcpp
