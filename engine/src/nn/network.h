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

// A value as it is behind a stage, which later stages may change.
struct Tap {
    std::string value;
    size_t stage = 0;
    bool operator==(const Tap&) const = default;
};

// A part of a network to run: its stages by number (empty: all), and the names of the values that are wanted: those at
// the end, then those of taps.
struct Selection {
    std::vector<size_t> stages{};
    std::vector<std::string> results = {"x"};
    std::vector<Tap> taps{};
    bool operator==(const Selection&) const = default;

    size_t wanted() const { return results.size() + taps.size(); }
    const std::string& name_of(size_t result) const {
        return result < results.size() ? results[result] : taps[result - results.size()].value;
    }
};

// Networks declare into this: their weights, and their stages in the order in which they run. Several may declare into
// one, and then run as one: later stages find the values that earlier ones leave.
class Declaration {
  public:
    WeightList& weights() { return weights_; }
    const WeightList& weights() const { return weights_; }
    const std::vector<Stage>& stages() const { return stages_; }

    // A place for the tensors of `files` whose names begin with `prefix`.
    Scope scope(const ModelFiles& files, std::string prefix) { return {weights_, files, std::move(prefix)}; }

    // Declares a stage: `make` builds its layers, and so declares their weights, and returns how they run.
    // `same_block`: it belongs to the block of the stage before.
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

    // A block as two stages, between which plans may cut.
    template <typename First, typename Second>
    void block(const std::string& name, First first_half, Second second_half) {
        stage(name, first_half);
        stage(name + ".1", second_half, true);
    }

    // Takes back what was declared after the first so many stages and weights.
    void cut(size_t stages, size_t weights) {
        stages_.resize(stages);
        weights_.all().resize(weights);
    }

  private:
    WeightList weights_;
    std::vector<Stage> stages_;
};

class Network {
  public:
    Network(const ModelFiles& files, std::string name) : files_(&files), name_(std::move(name)) {}
    virtual ~Network() = default;
    Network(const Network&) = delete;
    Network& operator=(const Network&) = delete;

    const std::string& name() const { return name_; }
    WeightList& weights() { return declaration_.weights(); }
    const WeightList& weights() const { return declaration_.weights(); }
    const std::vector<Stage>& stages() const { return declaration_.stages(); }
    // Other networks may declare stages after its own, which run only in selections that name them.
    Declaration& declaration() { return declaration_; }
    // Whether values inside may pass the largest f16, so that they must not be rounded to it.
    virtual bool wide_range() const { return false; }
    // Whether keys and values of attention may pass it, too.
    virtual bool wide_attention() const { return wide_range(); }
    // The number of sides of its results. The outermost side is the batch.
    virtual size_t result_rank() const { return 4; }

  protected:
    Scope root() { return declaration_.scope(*files_, name_); }

    // See Declaration.
    template <typename Make>
    void stage(std::string name, Make make, bool same_block = false) {
        declaration_.stage(std::move(name), make, same_block);
    }
    template <typename First, typename Second>
    void block(const std::string& name, First first_half, Second second_half) {
        declaration_.block(name, first_half, second_half);
    }

  private:
    const ModelFiles* files_;
    std::string name_;
    Declaration declaration_;
};

// Heads per level or one number for all, from a config's list; `otherwise` if the config has none.
inline int per_level(const std::vector<int>& list, size_t level, int otherwise) {
    if (list.empty()) return otherwise;
    return list.size() == 1 ? list[0] : list[std::min(level, list.size() - 1)];
}

}  // namespace sdcpp
