// The adapters that are in use on a model's weights.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "weights/adapters/adapter_file.h"

namespace sdcpp {

struct AdapterChoice {
    std::filesystem::path path;
    double denoiser = 1, text = 1;  // weights of the changes in the diffusion model and in text encoders
};

class AdapterSet {
  public:
    // A network's weights, whose number is how many were added before. They must outlive this.
    void add(const Naming& naming, bool text, WeightList& weights);
    const LayerNames& names() const { return names_; }

    using Files = std::vector<std::shared_ptr<const AdapterFile>>;
    // The files of these choices; those that are in use and have not changed are not opened again.
    Files open(const std::vector<AdapterChoice>& choices) const;

    // Other sources for weights, by network. A weight that stays as it is has none.
    using Sources = std::map<size_t, std::vector<std::pair<size_t, WeightSourcePtr>>>;

    struct Link {  // one source in a weight's chain
        const AdapterFile* file = nullptr;
        size_t layer = 0;
        bool bias = false;
        double weight = 0;
        int64_t first_row = 0, columns = 0;
        bool operator==(const Link&) const = default;
    };
    using Place = std::pair<size_t, size_t>;  // network, weight
    using Chains = std::map<Place, std::vector<Link>>;

    struct Exchange {
        Sources sources;
        Files files;
        Chains chains;
    };
    // What is to be done for these files to take the place of those in use. Weights get their changes one after the
    // other; weights that are no longer changed get the source from before. Throws SDCPP_UNSUPPORTED_MODEL.
    Exchange exchange(const std::vector<AdapterChoice>& choices, Files files);
    // Its files are in use from now on; the caller gives the weights their sources.
    Sources use(Exchange exchange) noexcept;

  private:
    Chains chains(const std::vector<AdapterChoice>& choices, const Files& files) const;

    LayerNames names_;
    std::vector<WeightList*> weights_;
    std::map<Place, WeightSourcePtr> untouched_;  // sources of weights that are or were changed
    Files files_;                                 // in use
    Chains chains_;
    uint64_t generation_ = 0;
};

}  // namespace sdcpp
