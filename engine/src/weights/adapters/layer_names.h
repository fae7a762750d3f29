// Names of a model's layers in adapters' files. Every name that some program writes for a layer is made from the loaded
// model's layers; names in files are looked up and never taken apart, since underscores stand for dots as well.
#pragma once

#include <cstddef>
#include <functional>
#include <string>
#include <unordered_map>
#include <vector>

#include "weights/adapters/adapter.h"
#include "weights/naming.h"
#include "weights/weight.h"

namespace sdcpp {

// A layer: weights of a network that stand behind one name. A file may have several of the model's as one, and the
// model several weights that a file has as one.
struct AdaptableLayer {
    struct Piece {
        size_t network = 0, weight = 0;  // numbers: the network's, and the weight's in its list
        int64_t first_row = 0;           // within the layer
        int64_t rows = 0, columns = 0;
    };
    std::string name;                 // the component's and the layer's, in the first network that has it
    bool text = false;                // whether it is a text encoder's
    std::vector<Piece> weight, bias;  // in the order of their rows
    LayerShape weight_shape, bias_shape;
    std::vector<size_t> parts;  // numbers of the layers that this one joins
};

class LayerNames {
  public:
    // The network's number is how many were added before.
    void add(const Naming& naming, bool text, const WeightList& weights);

    const std::vector<AdaptableLayer>& layers() const { return layers_; }
    // The number of the layer that has this name; nothing if none has.
    std::optional<size_t> find(const std::string& name) const;

  private:
    std::vector<AdaptableLayer> layers_;
    std::unordered_map<std::string, size_t> numbers_;  // by every name
    size_t networks_ = 0;
};

}  // namespace sdcpp
