// Inpainting: a denoiser that keeps a part of a picture.
#pragma once

#include <functional>

#include "generation/denoise.h"

namespace sdcpp {

// A1111's soft inpainting: a clean estimate and the latent are mixed by direction and by length, more of the latent the
// less noise there is.
struct SoftInpainting {
    bool on = false;
    double bias = 1;           // how fast a mask's share falls as noise goes: the power of sigma
    double preservation = .5;  // how much of the latent stays
    double contrast = 4;       // the larger, the more the longer of two latents counts
};

// What stays, for all pictures of a run, one behind the other.
struct Kept {
    Floats latent;  // clean
    Floats noise;   // the run's first, unit variance
    Floats mask;    // as many numbers, 0 to 1: 1 is repainted, 0 is kept
    bool flow = false;
    // The share of a mask from which on a place is repainted at a level of noise (differential diffusion, Levin & Fried
    // 2023, arXiv 2306.00950); null: the mask mixes.
    std::function<double(double sigma)> threshold = nullptr;
    SoftInpainting soft{};
    size_t pictures = 1, channels = 1;  // channels: of a picture's latent
};

// `clean` sees what is kept under the right amount of noise, and its estimate there is the latent (Lugmayr et al. 2022,
// arXiv 2201.09865, section 4.1, before and after each evaluation). With soft inpainting it sees x alone, and its
// estimate is mixed with the latent.
Denoise masked(Denoise clean, const Kept& kept);

// The latents at the end, what is kept put back.
void put_back(Floats& x, const Kept& kept);

}  // namespace sdcpp
