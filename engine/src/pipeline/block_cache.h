// Caching by the first block: it runs in each step, and tells whether the blocks behind it have to.
#pragma once

#include <map>
#include <vector>

#include "models/denoiser.h"
#include "runtime/executor.h"

namespace sdcpp {

// The stages of a network without some blocks of its list. Throws SDCPP_INVALID_ARGUMENT for a block that it does not
// have, and for a network without a list.
Selection without_blocks(const Denoiser& net, const std::vector<int>& blocks);

// Cheng 2025 (ParaAttention's "first block cache"). While the first block changes the picture's tokens nearly as it did
// in the last step that was computed, the others count as changing them just as they did there. Blocks that do not run
// are not uploaded.
class BlockCache {
  public:
    // `threshold`: the mean distance from what the first block did, as a share of its mean size. Throws
    // SDCPP_INVALID_ARGUMENT for a network without a list of blocks.
    BlockCache(Executor& executor, double threshold);

    // The denoiser's result. `conditionings`: the rows' numbers in the run, which have a cache of their own; they all
    // skip the blocks, or none does. `may_skip`: whether this step may. `skipped` gets whether it has.
    Array run(const std::vector<Array>& inputs, const std::vector<size_t>& conditionings, bool may_skip, bool& skipped);

  private:
    struct Known {
        std::vector<float> first, rest;  // the first state's change by the first block, and by all others
    };
    Array all(const std::vector<Array>& inputs, Known& known);
    void learn_rest(const Array& head, const Array& last, Known& known) const;

    Executor& executor_;
    BlockList list_;
    double threshold_;
    Selection whole_, head_, body_, tail_;
    std::map<std::vector<size_t>, Known> known_;
};

}  // namespace sdcpp
