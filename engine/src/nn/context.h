// A context of ggml's, which holds tensors and graphs, in memory of ours: ggml ends the process if it finds none
// itself.
#pragma once

#include <cstddef>
#include <memory>

#include <ggml-cpp.h>

#include "base/error.h"

namespace sdcpp {

class Context {
  public:
    Context() = default;
    // Throws SDCPP_OUT_OF_MEMORY.
    explicit Context(size_t bytes) : memory_(new (std::nothrow) std::byte[bytes]) {
        if (!memory_) fail(SDCPP_OUT_OF_MEMORY, "out of memory");
        context_.reset(ggml_init({.mem_size = bytes, .mem_buffer = memory_.get(), .no_alloc = true}));
    }
    ggml_context* get() const { return context_.get(); }

  private:
    std::unique_ptr<std::byte[]> memory_;
    ggml_context_ptr context_;
};

}  // namespace sdcpp
