// Weights as networks declare them: a Scope names tensors, checks their shapes against the files and lists them in
// order.
#pragma once

#include <ggml.h>

#include <array>
#include <deque>
#include <span>
#include <string>
#include <vector>

#include "weights/model_files.h"
#include "weights/type_rules.h"
#include "weights/weight_source.h"

namespace sdcpp {

enum class WeightKind {
    vector,       // norms, biases, position tables: always f32
    matrix,       // linear layers: any type
    edge,         // first and last layers, and embeddings: no quantized type coarser than q8_0
    convolution,  // [out, in, height, width]: f16 or f32
};

struct Weight {
    std::string name;
    WeightSourcePtr source;
    WeightKind kind{};
    std::vector<int64_t> shape;     // outermost first
    ggml_tensor* tensor = nullptr;  // set while the weights are on a device
};

// The weights of one network, in the order in which they were declared (so the stages' weights are consecutive).
class WeightList {
  public:
    // The weight's address stays the same as long as the list lives, or the list that this one is moved to.
    const Weight* add(Weight weight) { return &weights_.emplace_back(std::move(weight)); }
    std::deque<Weight>& all() { return weights_; }
    const std::deque<Weight>& all() const { return weights_; }

  private:
    std::deque<Weight> weights_;
};

// The values of a tensor that `files` hold, its scales included.
WeightSourcePtr source_of(const ModelFiles& files, const TensorInfo& tensor);

// A place in the tree of names.
class Scope {
  public:
    Scope(WeightList& list, const ModelFiles& files, std::string prefix)
        : list_(&list), files_(&files), prefix_(std::move(prefix)) {}

    Scope operator/(std::string_view name) const { return {*list_, *files_, prefix_ + "." + std::string(name)}; }
    Scope operator/(int number) const { return *this / std::to_string(number); }
    const std::string& name() const { return prefix_; }
    const ModelFiles& files() const { return *files_; }

    // True if `name` is a tensor here, or the start of one's name.
    bool has(std::string_view name) const;
    // Side `d` of tensor `name`; throws SDCPP_MISSING_PART if there is none.
    int64_t side(std::string_view name, size_t d) const;
    // How many of name.0, name.1, … there are.
    int count(std::string_view name) const;
    // Declares a weight. Throws SDCPP_MISSING_PART or SDCPP_UNSUPPORTED_MODEL (wrong shape or type).
    const Weight* weight(std::string_view name, WeightKind kind, const std::vector<int64_t>& shape) const;

  private:
    const TensorInfo& tensor(std::string_view name) const;

    WeightList* list_;
    const ModelFiles* files_;
    std::string prefix_;
};

// The type in which `weight` is held on a device: its file's if the device computes with that, else the nearest that
// can. `rules`: what the user wants, as far as its kind goes along.
ggml_type stored_type(const Weight& weight, const TypeRules& rules);

// A weight is converted in pieces of whole rows, about a million values each, so that no f32 copy of it is held.
struct RowBlock {
    int64_t first = 0, count = 0;  // in values
};
std::vector<RowBlock> row_blocks_of(const Weight& weight);

// Pieces [first, last) of `weight` in `type`, in ggml's layout, one behind the other in `out`, on several threads.
void convert_row_blocks(const Weight& weight, ggml_type type, const std::vector<RowBlock>& pieces, size_t first,
                        size_t last, int threads, std::byte* out);

// All of it, converted or copied. `forget`: the source's pages need not stay in memory.
void convert_weight(const Weight& weight, ggml_type type, std::byte* out, int threads, bool forget);

}  // namespace sdcpp
