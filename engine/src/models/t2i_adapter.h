// T2I-Adapters (Mou et al. 2023): a small network that makes of a picture, the hint, a feature for each level of a
// UNet.
#pragma once

#include "models/denoiser.h"

namespace sdcpp {

// Value in: "x" [1, C * f * f, H/f, W/f], the hint in patches of f pixels. Out: "feature.I" [1, C', h, w], from the
// widest level on.
class T2IAdapter : public Network {
  public:
    explicit T2IAdapter(const ModelFiles& files);

    int64_t hint_channels() const { return hint_channels_; }  // 3, or 1: grey
    int64_t factor() const { return factor_; }
    // Channels of each feature, and by what the hint's sides are divided.
    struct Feature {
        int64_t channels = 0, divisor = 1;
    };
    const std::vector<Feature>& features() const { return features_; }
    // The whole network, with all features as results.
    Selection select() const;

  private:
    int64_t hint_channels_ = 3, factor_ = 8;
    std::vector<Feature> features_;
};

}  // namespace sdcpp
