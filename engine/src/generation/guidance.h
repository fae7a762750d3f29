// Guidance: what becomes of a network's predictions for the prompt and for the negative prompt.
#pragma once

#include <vector>

#include "generation/latent.h"
#include "generation/prediction.h"

namespace sdcpp {

// The ways to guide, which may be combined. By default the first alone.
struct Guidance {
    // Ho & Salimans 2022, "Classifier-free diffusion guidance": negative + scale * (positive - negative).
    double scale = 1;
    // Lin et al. 2023 (2305.08891): the share with which the result's standard deviation becomes the positive's.
    double rescale = 0;
    // Qwen team 2025 (2508.02324): the share with which the norm of each patch becomes the positive's.
    double norm = 0;
    int64_t patch = 1, columns = 0;  // the sides of patches, and the latent's width
    // Sadat et al. 2024 (2410.02416), on clean estimates: of the difference between the sides, the share that is
    // parallel to the positive, the share of the step before that is added, and its greatest norm (0: any).
    double parallel = 1, momentum = 0, norm_threshold = 0;
    // Fan et al. 2025 (2503.18886): the negative is scaled to be as near to the positive as it can be; the first steps'
    // predictions are zero.
    bool zero_star = false;
    int zero_steps = -1;  // below 0: one for a flow, none for a diffusion
    // Dynamic thresholding: each channel gets the range that guidance of this scale would give it. Values past the
    // percentile are cut off. `phi` is the share of the result in the prediction; a scale of 0 turns it off.
    double mimic_scale = 0, percentile = 1, phi = 1;
    // Skip-layer guidance (Stability AI 2024): away from what the network predicts for the
    // prompt without some of its blocks, by so much, within a share of the steps. 0 turns it off.
    double skip_scale = 0, skip_start = 0.01, skip_end = 0.2;

    bool projects() const { return parallel != 1 || momentum != 0 || norm_threshold > 0; }
    // As the first pipeline with it counts in diffusers: never in the first step.
    bool skips_at(double share) const { return skip_scale != 0 && share > skip_start && share < skip_end; }
};

// The predictions of a batch's pictures for both sides of guidance, one picture behind the other.
struct Sides {
    const std::vector<double>& positive;
    const std::vector<double>& negative;  // empty: there is none
    const std::vector<double>& skipped;   // the positive's without some blocks; empty: there is none
};

// The guided prediction. `step`: from 0.
class Guided {
  public:
    // Latents of `channels` for so many pictures.
    Guided(const Guidance& guidance, Predicts what, int pictures, int64_t channels)
        : guidance_(guidance), what_(what), pictures_(pictures), channels_(channels) {}

    const Guidance& how() const { return guidance_; }
    std::vector<double> operator()(const Sides& sides, const Floats& x, double sigma, size_t step);

  private:
    void keep_norms(std::vector<double>& out, const Sides& sides) const;
    void guide(std::vector<double>& out, const Sides& sides, const Floats& x, double sigma);
    void project(std::vector<double>& out, const Sides& sides, const Floats& x, double sigma);
    void threshold(std::vector<double>& out, const Sides& sides, const Floats& x, double sigma) const;

    Guidance guidance_;
    Predicts what_;
    int pictures_;
    int64_t channels_;
    std::vector<double> average_;  // running difference of the clean estimates, with momentum
};

}  // namespace sdcpp
