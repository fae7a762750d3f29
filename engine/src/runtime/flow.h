// The values that flow between a network's stages for inputs of one shape, with their makers and readers; the memory of
// stages that run as one graph; and the graphs themselves.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "nn/context.h"
#include "nn/network.h"
#include "planning/planner.h"

namespace sdcpp {

// A value that lives across stages.
struct Carry {
    ggml_type type = GGML_TYPE_F32;
    std::array<int64_t, GGML_MAX_DIMS> ne{};
    uint64_t bytes = 0;
    int born = -1;      // the stage that makes it; -1: an input
    int last_use = -1;  // the last stage that reads it; the number of stages: a result
};

// A carry's place while a graph runs.
struct Address {
    ggml_backend_buffer_t buffer = nullptr;
    void* data = nullptr;
};

struct SegmentGraph {
    Context tensors, graph_memory;
    CustomOperations custom;
    ggml_cgraph* graph = nullptr;
};

class Flow {
  public:
    // `selection` names its stages. `batch`: the outermost side of inputs that are not shared. The weights must have
    // their tensors.
    Flow(const Network& network, const Kernels& kernels, const Selection& selection, const std::vector<Array>& inputs,
         int64_t batch);

    size_t count() const { return stages_.size(); }
    const std::vector<Carry>& carries() const { return carries_; }
    // The carry of input `number`, and the carries of the results and taps in the selection's order.
    size_t input_carry(size_t number) const { return input_carries_[number]; }
    const std::vector<size_t>& results() const { return results_; }

    // Stages first..last as one graph; `place` gives carries their addresses. Tensors are named after their stages.
    SegmentGraph build(size_t first, size_t last, const std::function<Address(size_t carry)>& place) const;
    // Workspace is that of a GraphLayout for `buffers`; nothing is allocated. Scratch is added, which stays taken from
    // one graph to the next: the working memory of the CPU's own operations, a GPU's pools.
    UnionBytes extent(size_t first, size_t last, ggml_backend_buffer_type_t buffers) const;
    // Multiplications and additions of a stage's large operations.
    double flops(size_t stage) const { return flops_[stage]; }
    uint64_t scratch_bytes() const { return scratch_bytes_; }

  private:
    using Names = std::map<std::string, size_t>;  // carries by their values' names
    size_t add_carry(const ggml_tensor* tensor, int born);

    const Network& network_;
    const Kernels& kernels_;
    std::vector<size_t> stages_;
    std::vector<Carry> carries_;
    std::vector<size_t> input_carries_;
    std::vector<Names> before_;  // each stage, and one more: after the last
    std::vector<double> flops_;
    std::vector<size_t> context_bytes_;  // each stage's tensors' in a context of ggml
    uint64_t scratch_bytes_ = 0;
    std::vector<size_t> results_;
    struct TapHere {
        std::string value;
        size_t carry;
    };
    std::multimap<size_t, TapHere> taps_;  // by the place of their stage in the selection
};

// Multiplications and additions of one of ggml's operations.
double operations(const ggml_tensor* tensor);

}  // namespace sdcpp
