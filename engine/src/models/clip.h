// CLIP's text model (Radford et al. 2021), the text encoder of Stable Diffusion 1.x.
#pragma once

#include "models/network.h"

namespace sdcpp {

// Values in: "tokens" i32 [N, T], "mask" f16 [T, T]. Out: "x" [N, T, C], the hidden states after the final norm.
class ClipText : public Network {
  public:
    explicit ClipText(const ModelFiles& files, const std::string& name = "clip_l");

    int64_t width() const { return width_; }
    int64_t positions() const { return positions_; }
    int64_t vocabulary() const { return vocabulary_; }
    int layers() const { return layers_; }
    // Which stages run when the last `clip_skip - 1` layers are left out (the final norm stays).
    std::vector<size_t> stages_for(int clip_skip) const;

  private:
    int64_t width_, positions_, vocabulary_;
    int layers_;
};

}  // namespace sdcpp
