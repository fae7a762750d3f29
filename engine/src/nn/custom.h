// How an operation of our own becomes part of a ggml graph.
#pragma once

#include <initializer_list>

#include "nn/graph.h"

namespace sdcpp::cpu {

// Work in `count` units that do not depend on each other, so that any number of threads may share it.
class CpuOperation : public CustomOperation {
  public:
    explicit CpuOperation(const Kernels& kernels)
        : gemm(*kernels.gemm), kept_(kernels.gemm), cancelled_(kernels.cancelled), failed_(kernels.failed) {}

    // Units [first, last), on one thread.
    virtual void run(const ggml_tensor* out, int64_t first, int64_t last) const = 0;
    // The memory that a thread takes for so many units.
    virtual int64_t scratch_floats(int64_t) const { return 0; }
    uint64_t scratch_bytes(int threads) const override;
    bool cancelled() const { return cancelled_ && cancelled_->load(std::memory_order_relaxed); }
    void share(const ggml_tensor* out, int thread, int threads) const noexcept;

    int64_t units = 0;
    const Gemm& gemm;

  private:
    std::shared_ptr<const Gemm> kept_;
    const std::atomic<bool>* cancelled_;
    std::shared_ptr<std::atomic<bool>> failed_;
};

// An f32 tensor of `ne` that `operation` computes from `sources`.
ggml_tensor* add_operation(Graph& g, std::unique_ptr<CpuOperation> operation, std::initializer_list<int64_t> ne,
                           std::initializer_list<ggml_tensor*> sources);

inline int64_t blocks(int64_t total, int64_t block) { return (total + block - 1) / block; }
// Blocks of at most about `most`, equal as far as can be, so that few threads share them evenly if there are
// `others` of each.
int64_t even_block(int64_t total, int64_t most, int64_t others);

inline const float* values(const ggml_tensor* t) { return static_cast<const float*>(t->data); }

// Whether operations of ours can read it as [.., rows, ne0] without gaps.
inline bool plain(const ggml_tensor* x) { return x->type == GGML_TYPE_F32 && ggml_is_contiguous(x); }

}  // namespace sdcpp::cpu
