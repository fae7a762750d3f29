// Prompts to latents: the run of a sampler.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "generation/mask.h"
#include "generation/start.h"
#include "generation/step_cache.h"
#include "models/conditioning.h"
#include "pipeline/model.h"

namespace sdcpp {

struct PromptShare {
    std::vector<const Conditioning*> conditionings{};  // one for all pictures, or one for each
    Guide guide;
    bool without_picture = false;  // the picture in the extra channels counts as zeros
};

// The state of a run after a step.
struct StepReport {
    int step = 0, steps = 0;  // from 1
    double seconds = 0;       // since sampling began
    const Floats& clean;      // the present estimate, of all pictures
    const Floats& noisy;      // the next step's start, scaled as the network takes it
};
// False stops the run.
using StepObserver = std::function<bool(const StepReport&)>;

struct SampleOptions {
    std::vector<PromptShare> shares;
    int width = 0, height = 0, steps = 0;
    double eta = -1;
    Guidance guidance_by;                      // combines the shares' predictions
    std::vector<int> skip_layers = {7, 8, 9};  // left out for skip-layer guidance
    CacheOptions cache;
    double guidance_start = 0, guidance_end = 1;  // share of the steps with guidance
    double flow_shift = 0;                        // 0: the model's own
    float guidance = 3.5f;                        // for denoisers that were distilled to take it
    std::string sampler, scheduler, rng;
    std::vector<double> sigmas;   // take the place of the scheduler's; empty: none
    uint64_t seed = 0;            // the first picture's; the others' rise by one …
    std::vector<uint64_t> seeds;  // … unless each has its own
    int batch = 1;                // pictures that are sampled step by step together
    Start start;
    double denoising_start = 0, denoising_end = 1;  // the share of the noise that this run takes away
    Floats mask;        // [h, w] in 0 to 1, or one for each picture: 1 is repainted over the start's latent; empty: all
    Floats extra;       // [channels, h, w] for the denoiser's extra channels, or one for each picture
    Floats references;  // latents of pictures to follow, one behind the other …
    std::vector<int64_t> reference_sides;  // … and the height and width of each
    bool soft_mask = false;                // a mask's numbers are how much may change
    SoftInpainting soft_inpainting;
    std::vector<StepObserver> observers;  // called in this order
};

// Clean latents [batch, C, H/f, W/f]. Throws SDCPP_INVALID_ARGUMENT, SDCPP_CANCELLED, SDCPP_NOT_FINITE.
Floats generate(Model& model, const SampleOptions& options);

}  // namespace sdcpp
