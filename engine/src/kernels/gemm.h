// The matrix products that the CPU's operations are built on, and the memory they work in.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "kernels/gemm_kernels.h"

namespace sdcpp {

// Which products the CPU computes with.
struct GemmChoice {
    std::string library;  // see f32_gemm_kernels(); "": no operations of our own at all
    std::string kind;
    bool bf16 = false;  // large products in bf16, if the processor computes with it
};

// Thread-safe. Every product runs on the thread that asks for it.
class Gemm {
  public:
    // Throws what f32_gemm_kernels() throws.
    explicit Gemm(const GemmChoice& choice);
    Gemm(const Gemm&) = delete;
    Gemm& operator=(const Gemm&) = delete;

    // For sums that must stay exact to f32.
    const GemmKernels& f32() const { return *f32_; }
    // For large products.
    const GemmKernels& large() const { return bf16_ ? *bf16_ : *f32_; }

    // Memory for one operation on one thread; reusable afterwards.
    class Scratch {
      public:
        static constexpr int64_t padding = 256;  // floats that pieces of it may lose
        Scratch(const Gemm& owner, int64_t floats);
        ~Scratch();
        Scratch(const Scratch&) = delete;
        Scratch& operator=(const Scratch&) = delete;
        // The next `floats` of it.
        float* take(int64_t floats);
        GemmKernels::Unit* take_units(int64_t units) { return reinterpret_cast<GemmKernels::Unit*>(take(units)); }

      private:
        const Gemm& owner_;
        std::vector<float> memory_;
        size_t taken_ = 0;
    };
    // Gives memory back that no operation uses.
    void trim() const;

  private:
    std::unique_ptr<GemmKernels> f32_, bf16_;
    mutable std::mutex mutex_;
    mutable std::vector<std::vector<float>> free_;
    mutable size_t made_ = 0;  // pieces of memory, in use or free
};

}  // namespace sdcpp
