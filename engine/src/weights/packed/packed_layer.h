// A packed weight with the tensors that stand beside it, and checks that all packings share.
#pragma once

#include <cmath>
#include <initializer_list>
#include <limits>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "base/error.h"
#include "io/tensor_file.h"
#include "weights/packed/packing.h"

namespace sdcpp {

using TensorIndex = std::unordered_map<std::string, TensorInfo*>;  // all tensors of a model's files by their names

// A packed weight and the tensors beside it.
class PackedLayer {
  public:
    PackedLayer(TensorInfo& packed, std::string_view name, const Json& mark, const TensorIndex& index,
                std::unordered_set<const TensorInfo*>& used)
        : tensor(packed), format(name), facts(mark), index_(index), used_(used) {}

    TensorInfo& tensor;
    std::string_view format;
    const Json& facts;  // the layer's description in the file

    // `words` stand behind "X.weight is packed as nvfp4, but ".
    template <typename... Words>
    [[noreturn]] void fail_here(const Words&... words) const {
        fail(SDCPP_BAD_FILE, tensor.name, " is packed as ", format, ", but ", words...,
             "; the file is damaged or not whole: download it again");
    }
    // X and `ending`, if the weight is X.weight.
    std::string beside(std::string_view ending) const;
    // A tensor that belongs to the packing; null if there is none.
    const TensorInfo* find(const std::string& name) const;
    const TensorInfo& get(const std::string& name) const;
    // The rows of the layer by its bias; 0 if it has none.
    int64_t rows_of_bias() const;
    // The values of a tensor of `count` plain numbers.
    std::vector<float> numbers(const TensorInfo& of, int64_t count) const;
    // A whole number among the facts.
    int64_t whole(std::string_view key, int64_t otherwise) const;

  private:
    const TensorIndex& index_;
    std::unordered_set<const TensorInfo*>& used_;
};

constexpr float unknown_size = std::numeric_limits<float>::infinity();

float largest_of(const std::vector<float>& values);
// The numbers of all codes of f8_e4m3, and of E8M0, which are powers of two.
const std::vector<float>& e4m3_numbers();
const std::vector<float>& e8m0_numbers();

// The packing of codes of `bits` that fill a matrix of one of `types`.
Packing packed_matrix(const PackedLayer& layer, std::initializer_list<DType> types, int bits);
// Scales of blocks of `side` values, each a byte that stands for a number of `table`.
BlockFactors byte_blocks(const PackedLayer& layer, const Packing& packing, const TensorInfo& scales, int64_t side,
                         const std::vector<float>& table, bool tiled);
// One factor, or one a row. `largest`: the size of a level.
void add_factors(const PackedLayer& layer, Packing& packing, const TensorInfo& scales, float largest);
// Puts a packing on the layer's weight, with the true shape.
void attach(const PackedLayer& layer, Packing packing);

}  // namespace sdcpp
