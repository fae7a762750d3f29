// The base of network code: a ggml graph under construction, named values, and the device's choice of kernels.
// Shapes in comments are outermost first, [N, C, H, W]; ggml's own `ne` runs the other way.
#pragma once

#include <ggml.h>

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/calibration.h"
#include "kernels/gemm.h"

namespace sdcpp {

// The kernels that suit a device; filled in by device/, read by nn/ alone.
struct Kernels {
    // ggml_conv_2d_direct rather than im2col and a matrix product, for kernels of these types
    bool direct_convolution_f16 = true, direct_convolution_f32 = true;
    // The largest piece of a convolution's patches, and the largest tile of attention scores, that is held at once.
    size_t patch_bytes = calibration::piece_of_work_bytes, score_tile_bytes = calibration::piece_of_work_bytes;
    double max_attention_flops = calibration::max_operation_flops;  // A larger attention goes in several operations.
    bool f16_attention = false;                                     // flash kernels multiply in f16
    bool f32_gelu = false;  // ggml_gelu computes in f32; a CPU's goes through a table of f16
    // Ascending; heads of other sizes are padded with zeros. Empty: none are.
    std::vector<int64_t> fast_head_sizes{};
    std::function<bool(const ggml_tensor*)> supports = nullptr;  // null: everything
    // Bytes that the device takes for an operation beyond the graph's memory: copies in other types. Null: none.
    std::function<uint64_t(const ggml_tensor*)> pool_bytes = nullptr;
    // The CPU's own operations, on a BLAS library; null: ggml's. They stop early when `cancelled` is set, and set
    // `failed` if memory is short.
    std::shared_ptr<const Gemm> gemm = nullptr;
    int threads = 0;  // threads that share an operation, if their working memory is the device's
    const std::atomic<bool>* cancelled = nullptr;
    std::shared_ptr<std::atomic<bool>> failed = nullptr;
};

// An operation of our own in a graph; lives as long as the graph.
struct CustomOperation {
    virtual ~CustomOperation() = default;
    virtual const char* kind() const = 0;  // its name in profiles
    // The working memory of `threads` threads, not part of the graph's.
    virtual uint64_t scratch_bytes(int threads) const = 0;
    const ggml_tensor* result = nullptr;
    double flops = 0;
};
using CustomOperations = std::vector<std::unique_ptr<CustomOperation>>;

struct Graph {
    ggml_context* context;
    const Kernels& kernels;
    CustomOperations& custom;
    bool wide_range = false;      // values may pass the largest f16
    bool wide_attention = false;  // and keys and values of attention may, too
};

// Values that flow between stages, by name: the hidden state "x", conditioning, skips.
using Values = std::map<std::string, ggml_tensor*>;

// The smallest piece of a network that runs alone with its own weights: weights [first_weight, last_weight) of the
// list.
struct Stage {
    std::string name;
    size_t first_weight = 0, last_weight = 0;
    bool same_block = false;  // as the stage before
    std::function<void(Graph&, Values&)> build;
};

}  // namespace sdcpp
