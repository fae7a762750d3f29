// Weights as networks declare them: a Scope names tensors, checks their shapes against the files and lists them in
// order.
#pragma once

#include <ggml.h>

#include <array>
#include <deque>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "weights/model_files.h"
#include "weights/type_rules.h"

namespace sdcpp {

enum class WeightKind {
    vector,       // norms, biases, position tables: always f32
    matrix,       // linear layers: any type
    edge,         // of first and last layers, and embeddings: no quantized type coarser than q8_0
    convolution,  // [out, in, height, width]: f16 or f32
};

struct Weight {
    std::string name;
    const TensorInfo* source = nullptr;
    WeightKind kind{};
    std::vector<int64_t> shape;     // outermost first
    ggml_tensor* tensor = nullptr;  // set while the weights are on a device
};

// The weights of one network, in the order in which they were declared (so the stages' weights are consecutive).
class WeightList {
  public:
    explicit WeightList(const ModelFiles& files) : files_(&files) {}
    const ModelFiles& files() const { return *files_; }
    const Weight* add(const std::string& name, WeightKind kind, const std::vector<int64_t>& shape);
    std::deque<Weight>& all() { return weights_; }
    const std::deque<Weight>& all() const { return weights_; }

  private:
    const ModelFiles* files_;
    std::deque<Weight> weights_;
};

// A place in the tree of names.
class Scope {
  public:
    Scope(WeightList& list, std::string prefix) : list_(&list), prefix_(std::move(prefix)) {}

    Scope operator/(std::string_view name) const { return {*list_, prefix_ + "." + std::string(name)}; }
    Scope operator/(int number) const { return *this / std::to_string(number); }
    const std::string& name() const { return prefix_; }
    const ModelFiles& files() const { return list_->files(); }

    // True where `name` is a tensor here, or the start of one's name.
    bool has(std::string_view name) const;
    // Side `d` of tensor `name`; throws SDCPP_MISSING_PART where there is none.
    int64_t side(std::string_view name, size_t d) const;
    // How many of name.0, name.1, … there are.
    int count(std::string_view name) const;
    // Declares a weight. Throws SDCPP_MISSING_PART or SDCPP_UNSUPPORTED_MODEL (wrong shape or type).
    const Weight* weight(std::string_view name, WeightKind kind, const std::vector<int64_t>& shape) const;

  private:
    const TensorInfo& tensor(std::string_view name) const;

    WeightList* list_;
    std::string prefix_;
};

// The type in which `weight` is held on a device: its file's where that can be computed with, else the nearest that
// can. `rules`: what the user wants, as far as its kind goes along.
ggml_type stored_type(const Weight& weight, const TypeRules& rules);

// A weight is converted in pieces of whole rows, about a million values each, so that no f32 copy of it is held.
struct Piece {
    int64_t first = 0, count = 0;  // in values
};
std::vector<Piece> pieces_of(const Weight& weight);

// Pieces [first, last) of `weight` in `type`, in ggml's layout, one behind the other in `out`, on several threads.
void convert_pieces(const Weight& weight, ggml_type type, const std::vector<Piece>& pieces, size_t first, size_t last,
                    int threads, std::byte* out);

// All of it; `done` is called with each part of the source that has been read.
void convert_weight(const Weight& weight, ggml_type type, std::byte* out, int threads,
                    const std::function<void(std::span<const std::byte>)>& done);

}  // namespace sdcpp
