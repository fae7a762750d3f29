// The single-stream diffusion transformer of Krea 2 (Krea 2026): states of many layers of a language model are fused
// into one text, which goes through the blocks together with the picture.
#pragma once

#include "models/denoiser.h"
#include "models/kept_inputs.h"

namespace sdcpp {

// Values in: "x" [N, Tx, P] patches of the latent, "time" [N, M] sinusoids, "context" [N, Tc, L * D] states of the text
// after L layers side by side, "rope" [N, Tc + Tx, 2 d] the positions for apply_rope(); and, if texts of different
// lengths go together, "context_mask" [N, 1, Tc, Tc] and "mask" [N, 1, Tc + Tx, Tc + Tx]. Out: "x" [N, Tx, P], the
// direction from the picture to the noise.
class Krea : public Denoiser {
  public:
    explicit Krea(const ModelFiles& files);

    bool wide_range() const override { return true; }
    bool wide_attention() const override { return false; }  // values are made of a normed input
    size_t result_rank() const override { return 3; }
    int64_t in_channels() const override { return channels_; }
    int64_t out_channels() const override { return channels_; }
    int64_t multiple() const override { return patch; }
    std::vector<Taken> conditioning() const override { return {{"context", taps_ * text_width_}}; }
    BlockList blocks() const override { return {"blocks", "first", "last", {"tmlp", "tproj"}, {"x"}}; }
    std::vector<Array> inputs(const Noisy& noisy) const override;
    std::vector<float> prediction(const Array& result, const Noisy& noisy) const override;

  private:
    static constexpr int64_t patch = 2;

    void text_stages(const Scope& s);
    std::vector<Array> positions(const PatchSizes& sizes) const;

    int64_t channels_, width_, text_width_, taps_, head_, sinusoids_;
    float eps_;
    std::vector<int> axes_;  // how many values of a head each of the three axes rotates
    double theta_;
    mutable KeptInputs<PatchSizes> positions_;
};

}  // namespace sdcpp
