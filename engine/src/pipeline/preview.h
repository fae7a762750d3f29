// Pictures of a run under way.
#pragma once

#include <string>
#include <vector>

#include "pipeline/autoencode.h"

namespace sdcpp {

struct PreviewOptions {
    std::string method = "none";  // "proj": by the latent space's matrix; "tae": the tiny decoder; "vae": the decoder
    int interval = 1;             // steps
    bool noisy = false;           // the next step's start in place of the clean estimate

    bool wanted() const { return method != "none"; }
    // Whether there is one after this step; the last one always has one.
    bool after(int step, int steps) const { return wanted() && (step % interval == 0 || step == steps); }
};

const std::vector<std::string>& preview_names();

struct Pictures {
    std::vector<uint8_t> pixels;  // [batch, height, width, 3]
    int height = 0, width = 0;
};

// Throws SDCPP_MISSING_PART if the model lacks what the method needs.
void require_preview(Model& model, const PreviewOptions& options);
// `latents`: [batch, C, height, width], as sampled.
Pictures preview_pictures(Model& model, const PreviewOptions& options, DecodeOptions decoding, const Floats& latents,
                          int batch, int height, int width);

}  // namespace sdcpp
