// CLIP's vision models (Radford et al. 2021; Dosovitskiy et al. 2021): pictures to vectors. open_clip's larger ones are
// the eyes of IP-Adapters.
#pragma once

#include "nn/network.h"

namespace sdcpp {

// Value in: "x" [N, 3, S, S], a picture less CLIP's mean colour, divided by its deviation. Out: "x", by select(): the
// picture's one vector [N, 1, P], or the states of its patches [N, 1 + patches, C].
class ClipVision : public Network {
  public:
    explicit ClipVision(const ModelFiles& files);

    int64_t side() const { return side_; }  // S
    int64_t width() const { return width_; }
    int64_t tokens() const { return tokens_; }  // patches and the class
    int64_t projected_width() const { return projected_width_; }
    size_t result_rank() const override { return 3; }

    enum class Output {
        vector,       // projected
        penultimate,  // states that the last layer takes
    };
    Selection select(Output output) const;

  private:
    int64_t side_, width_, tokens_, projected_width_;
    int layers_;
};

}  // namespace sdcpp
