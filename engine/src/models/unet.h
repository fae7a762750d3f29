// The UNet of Stable Diffusion 1.x, 2.x (Rombach et al. 2022) and XL (Podell et al. 2023), any widths, depths and
// context.
#pragma once

#include "models/denoiser.h"

namespace sdcpp {

// Values in: "x" [N, C, H, W] noisy latent, "time" [N, M] sinusoids of the timestep, "context" [N, T, D], and, for XL,
// "y" [N, A]: the pooled text and sinusoids of the picture's size. Out: "x" [N, C', H, W], the prediction. Values that
// are added if there are any: "residual.I" to skip I or, after the last skip's number, to the middle (ControlNets);
// "feature.I" [1, C, h, w] to the output of level I (T2I-Adapters). "picture.P.key.I" and "picture.P.value.I" [N, T,
// C]: picture P's tokens for cross-attention I, for as many pictures as there are (IP-Adapters).
class UNet : public Denoiser {
  public:
    explicit UNet(const ModelFiles& files);

    int64_t in_channels() const override { return in_channels_; }
    int64_t out_channels() const override { return out_channels_; }
    int64_t multiple() const override { return multiple_; }
    bool takes_extra_channels() const override { return true; }
    std::vector<Taken> conditioning() const override;
    std::vector<Array> inputs(const Noisy& noisy) const override;

    // Conditions of XL's base and of its refiner, each as a width of sinusoids.
    static constexpr int base_sizes = 6, refiner_sizes = 5;
    // Their values for a picture: the size that it is to look like a part of, then the part's origin. The base's last
    // ones are the part's size; the refiner's is the wanted aesthetic score, low for the negative prompt.
    static std::vector<float> sizes(int64_t count, int height, int width, bool negative);
    // How many the files' UNet takes; 0: it is not XL's.
    static int64_t sizes_of(const ModelFiles& files);

    // Channels of the skips, and of the middle.
    const std::vector<int64_t>& skips() const { return skips_; }
    int64_t middle() const { return middle_; }
    int64_t context_width() const { return context_width_; }
    // Where T2I-Adapters add their features: channels, and by what the latent's sides are divided.
    struct Feature {
        int64_t channels = 0, divisor = 1;
    };
    const std::vector<Feature>& features() const { return features_; }
    // The width of each cross-attention, in the order in which they run, and where they stand: so many come before the
    // middle, and so many before the last blocks.
    const std::vector<int64_t>& attentions() const { return attentions_; }
    size_t attentions_before_middle() const { return before_middle_; }
    size_t attentions_before_last_blocks() const { return before_last_blocks_; }
    static std::string feature_name(size_t number) { return "feature." + std::to_string(number); }

  private:
    std::vector<int64_t> skips_;
    int64_t middle_ = 0;
    std::vector<Feature> features_;
    std::vector<int64_t> attentions_;
    size_t before_middle_ = 0, before_last_blocks_ = 0;
    int64_t in_channels_, out_channels_, model_channels_, context_width_, multiple_ = 1;
    int64_t pooled_width_ = 0, size_width_ = 0, sizes_ = 0;
};

}  // namespace sdcpp
