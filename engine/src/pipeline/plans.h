// The memory and time that networks take for a picture, before anything is loaded.
#pragma once

#include <string>

#include "pipeline/autoencode.h"
#include "pipeline/model.h"

namespace sdcpp {

// The size of a generation.
struct PictureSize {
    int width = 0, height = 0, batch = 1;
    bool guided = false;
    int chunks = 1;  // the prompt's
    DecodeOptions decode{};
};

// The plan of a text encoder, the denoiser, or one half of the autoencoder.
RunReport preview(Model& model, const std::string& network, const PictureSize& size);
// How many of a batch are best sampled together: all, up to a bound, if weights would be loaded again for each picture
// under the budget; otherwise 1.
int pictures_together(Model& model, const PictureSize& size);

}  // namespace sdcpp
