// The transformer of FLUX.2 (Black Forest Labs 2025): blocks of two streams, then of one, all of a kind modulated
// alike.
#pragma once

#include "models/denoiser.h"
#include "models/kept_inputs.h"

namespace sdcpp {

// Values in: "x" [N, Tx, P] the latent's places, "time" and, if it was distilled to take it, "guidance" [N, 256]
// sinusoids, "context" [N, Tc, D] of the text, "rope" [N, Tc + Tx, 2 d] the positions for apply_rope(). Out: "x" [N,
// Tx, P], the direction from the picture to the noise.
class Flux2 : public Denoiser {
  public:
    explicit Flux2(const ModelFiles& files);

    bool wide_range() const override { return true; }
    bool wide_attention() const override { return false; }  // values are made of a normed input
    size_t result_rank() const override { return 3; }
    int64_t in_channels() const override { return channels_; }
    int64_t out_channels() const override { return channels_; }
    int64_t multiple() const override { return 1; }
    std::vector<Taken> conditioning() const override { return {{"context", context_width_}}; }
    bool takes_guidance() const override { return guided_; }
    bool takes_references() const override { return true; }
    BlockList blocks() const override {
        return {"double_blocks", "txt_in", "final_layer", modulated_by_, {"x", "context"}};
    }
    std::vector<Array> inputs(const Noisy& noisy) const override;
    std::vector<float> prediction(const Array& result, const Noisy& noisy) const override;

  private:
    int64_t channels_, width_, context_width_, head_, sinusoids_;
    bool guided_;
    std::vector<std::string> modulated_by_;  // stages
    std::vector<int> axes_;                  // how many values of a head each of the four axes rotates
    double theta_;
    mutable KeptInputs<PictureSizes> rope_;
};

}  // namespace sdcpp
