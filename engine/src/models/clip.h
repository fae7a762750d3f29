// CLIP's text model (Radford et al. 2021) and open_clip's larger ones, the text encoders of Stable Diffusion.
#pragma once

#include "models/text_encoder.h"

namespace sdcpp {

// Values in: "x" [N, T, C] embeddings, "mask" f16 [T, T], "ends" i32 [N, 1]: each text's end. Out: "x" [N, T, C]
// the hidden states, "states.K" [N, T, C] those of K layers, "pooled" [N, 1, P] the text's last state, projected or
// not.
class ClipText : public TextEncoder {
  public:
    struct Sort {
        std::string name, config;  // begins its tensors' names; the key of its config
        std::string activation;    // if the config does not say
        int32_t padding;           // the token that fills chunks
    };
    ClipText(const ModelFiles& files, const Sort& sort);

    Traits traits() const override;
    std::vector<Array> inputs(std::span<const int32_t> tokens, int64_t rows, bool hides_padding) const override;
    Selection select(const Wanted& wanted) const override;

  private:
    // The stage of a layer, or of the final norm if `layer` is their number. After each layer's comes one that keeps
    // its states.
    static size_t stage_of(int layer) { return 1 + 2 * static_cast<size_t>(layer); }

    int64_t width_, positions_, vocabulary_, projected_width_ = 0;
    int layers_;
    int32_t padding_;
};

}  // namespace sdcpp
