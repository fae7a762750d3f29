// The beginning of a run, as a value: which noise, over which latents, and how much of the schedule is left to do.
#pragma once

#include <vector>

#include "generation/rng.h"
#include "generation/samplers.h"

namespace sdcpp {

struct Start {
    // One picture's, which each picture of a batch then gets, or a whole batch's, one picture behind the other.
    Floats noise;           // unit variance; empty: the run's generator draws it
    Floats latent;          // clean, as sampled; empty: none, the run is the whole schedule
    double strength = .75;  // 0 to 1: how much of the schedule a latent goes through
    // Whether a diffusion's run from noise alone begins with all of the variance that noise over a clean latent of
    // variance 1 would have, sigma^2 + 1.
    bool unit_signal = false;
    bool noisy = false;  // the latent has the first level's noise already, as an earlier run has left it

    struct Begun {
        Floats x, noise, latent;     // all pictures'; `latent` is empty if there is none
        std::vector<double> sigmas;  // the part of the schedule that is run
    };
    // For `batch` pictures of `one` numbers. N steps of the schedule give min(int(strength * N) + 1, N) that are run,
    // which is Stable Diffusion web UI's rule. A latent lies under the noise of the first of them; a noisy one is gone
    // on with, by all of the steps. Throws SDCPP_INVALID_ARGUMENT.
    Begun begin(std::vector<double> sigmas, Rng& rng, size_t one, int batch, bool flow) const;
};

// `values` for each picture of a batch: one picture's, of `one` numbers, or all pictures'. `what`: the option.
Floats for_each_picture(const Floats& values, size_t one, int batch, const char* what);

// `latent` (empty: zeros) with `noise` of unit variance added at the level `sigma`.
Floats noised(const Floats& noise, const Floats& latent, double sigma, bool flow);

}  // namespace sdcpp
