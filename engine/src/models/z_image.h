// The single-stream diffusion transformer of Z-Image (Z-Image team 2025).
#pragma once

#include "models/denoiser.h"
#include "models/kept_inputs.h"

namespace sdcpp {

// Values in: "x" [N, Tx, P] patches of the latent, "time" [N, M] sinusoids, "context" [N, Tc, D] states of the text
// padded to a multiple of 32, "kept" [N, Tc, 1]: 1 for the text's own, 0 for padding; "x_rope" [N, Tx', 2 d]
// and "context_rope" [N, Tc, 2 d]: the positions for apply_rope(), Tx' being Tx padded likewise; and, if texts of
// different lengths go together, "context_mask" [N, 1, Tc, Tc] and "mask" [N, 1, Tx' + Tc, Tx' + Tc]. Out: "x" [N, Tx,
// P], the direction from the picture to the noise.
class ZImage : public Denoiser {
  public:
    explicit ZImage(const ModelFiles& files);

    // Residuals pass the largest f16. Queries and keys are normed, and values are made of a normed input.
    bool wide_range() const override { return true; }
    bool wide_attention() const override { return false; }
    int64_t in_channels() const override { return channels_; }
    int64_t out_channels() const override { return channels_; }
    int64_t multiple() const override { return patch; }
    std::vector<Taken> conditioning() const override { return {{"context", context_width_}}; }
    size_t result_rank() const override { return 3; }
    BlockList blocks() const override { return {"layers", "join", "final_layer", {"t_embedder", "positions"}, {"x"}}; }
    std::vector<Array> inputs(const Noisy& noisy) const override;
    std::vector<float> prediction(const Array& result, const Noisy& noisy) const override;

  private:
    static constexpr int64_t patch = 2;

    std::vector<Array> positions(const PatchSizes& sizes) const;

    int64_t channels_, width_, context_width_, head_, sinusoids_;
    std::vector<int> axes_;  // how many values of a head each of the three axes rotates
    double theta_;
    mutable KeptInputs<PatchSizes> positions_;
};

}  // namespace sdcpp
