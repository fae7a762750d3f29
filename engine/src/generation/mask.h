// Inpainting: a denoiser that keeps a part of a picture.
#pragma once

#include <functional>

#include "generation/denoise.h"

namespace sdcpp {

// What stays, for all pictures of a run, one behind the other.
struct Kept {
    Floats latent;  // clean
    Floats noise;   // the run's first, unit variance
    Floats mask;    // as many numbers, 0 to 1: 1 is repainted, 0 is kept
    bool flow = false;
    // The share of a mask from which on a place is repainted at a level of noise (differential diffusion, Levin & Fried
    // 2023, arXiv 2306.00950); null: the mask mixes.
    std::function<double(double sigma)> threshold = nullptr;
};

// `clean` sees what is kept under the right amount of noise, and its estimate there is the latent (Lugmayr et al. 2022,
// arXiv 2201.09865, section 4.1, before and after each evaluation).
Denoise masked(Denoise clean, const Kept& kept);

// The latents at the end, what is kept put back.
void put_back(Floats& x, const Kept& kept);

}  // namespace sdcpp
