// One Brownian motion for each picture, whose course depends on the picture's seed alone and not on how many steps look
// at it.
#pragma once

#include <cstdint>
#include <vector>

#include "generation/latent.h"
#include "generation/rng.h"

namespace sdcpp {

// torchsde's BrownianTree (Li et al. 2020, "Scalable gradients for stochastic differential equations"), to the
// millionth: it halves the interval until it meets the time, with noise from seeds that numpy's SeedSequence spreads.
class BrownianTree {
  public:
    // From time `first` to `last`; `count` numbers, of the generator `origin` names.
    BrownianTree(Origin origin, double first, double last, size_t count);

    // What is added between two times, divided by the root of their distance: standard normal.
    Floats step(double from, double to) const;

  private:
    std::vector<double> at(double time) const;  // since `first`
    Floats noise(uint32_t seed) const;

    Origin origin_;
    double first_, last_;
    size_t count_;
    std::vector<double> whole_;  // from the first time to the last
};

// Words that numpy.random.SeedSequence(entropy, spawn_key=…, pool_size=24) generates.
std::vector<uint32_t> seed_words(uint64_t entropy, const std::vector<uint64_t>& spawn_key, size_t count);

}  // namespace sdcpp
