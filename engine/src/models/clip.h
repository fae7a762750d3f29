// CLIP's text model (Radford et al. 2021) and open_clip's larger ones, the text encoders of Stable Diffusion.
#pragma once

#include "models/text_encoder.h"

namespace sdcpp {

// Values in: "x" [N, T, C] embeddings, "mask" f16 [T, T], "ends" i32 [N, 1]: where each text ends. Out: "x" [N, T, C]
// the hidden states, "early" [N, T, C] those of an earlier layer, "pooled" [N, 1, P] the projected last state of the
// text.
class ClipText : public TextEncoder {
  public:
    // `name`: "clip_l", "clip_g" or "clip_h".
    ClipText(const ModelFiles& files, const std::string& name);

    Traits traits() const override;
    std::vector<Input> inputs(std::span<const int32_t> tokens, int64_t rows) const override;
    Selection select(int clip_skip, bool normed, bool pooled) const override;

    // Of "pooled"; 0 where the model has no projection.
    int64_t pooled_width() const { return pooled_width_; }

  private:
    // Of a layer, or of the final norm where `layer` is their number.
    static size_t stage_of(int layer) { return 1 + 2 * static_cast<size_t>(layer); }

    int64_t width_, positions_, vocabulary_, pooled_width_ = 0;
    int layers_;
};

}  // namespace sdcpp
