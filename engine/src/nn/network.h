// A network as the runtime sees it: weights in a list, stages in order, values in and out.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "nn/array.h"
#include "nn/graph.h"
#include "weights/weight.h"

namespace sdcpp {

// What of a network runs: its stages by number (empty: all), and the names of the values that are wanted.
struct Selection {
    std::vector<size_t> stages{};
    std::vector<std::string> results = {"x"};
    bool operator==(const Selection&) const = default;
};

class Network {
  public:
    Network(const ModelFiles& files, std::string name) : weights_(files), name_(std::move(name)) {}
    virtual ~Network() = default;
    Network(const Network&) = delete;
    Network& operator=(const Network&) = delete;

    const std::string& name() const { return name_; }
    WeightList& weights() { return weights_; }
    const WeightList& weights() const { return weights_; }
    const std::vector<Stage>& stages() const { return stages_; }
    // Whether values inside may pass the largest f16, so that they must not be rounded to it.
    virtual bool wide_range() const { return false; }
    // Sides of its results, the outermost of which is the batch.
    virtual size_t result_rank() const { return 4; }

  protected:
    Scope root() { return {weights_, name_}; }

    // Declares a stage: `make` builds its layers (and so declares their weights) and returns how they run.
    // `same_block`: it goes on with the block of the stage before.
    template <typename Make>
    void stage(std::string name, Make make, bool same_block = false) {
        Stage added;
        added.name = std::move(name);
        added.same_block = same_block;
        added.first_weight = weights_.all().size();
        added.build = make();
        added.last_weight = weights_.all().size();
        stages_.push_back(std::move(added));
    }

  private:
    WeightList weights_;
    std::string name_;
    std::vector<Stage> stages_;
};

// Heads per level or one number for all, from a config's list; `otherwise` where it says nothing.
inline int per_level(const std::vector<int>& list, size_t level, int otherwise) {
    if (list.empty()) return otherwise;
    return list.size() == 1 ? list[0] : list[std::min(level, list.size() - 1)];
}

}  // namespace sdcpp
