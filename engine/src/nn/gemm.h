// Matrix products of a BLAS library that is loaded at run time, and the memory that operations built on them work in.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

namespace sdcpp {

// Thread-safe. Every product runs on the thread that asks for it.
class Gemm {
  public:
    // `library`: the file of an OpenBLAS as the package scipy-openblas32 has it. Throws SDCPP_FILE_NOT_FOUND.
    explicit Gemm(const std::string& library);
    Gemm(const Gemm&) = delete;
    Gemm& operator=(const Gemm&) = delete;

    // c [m, n] = scale * a [m, k] b + keep * c, with b [k, n], or [n, k] if `b_transposed`. Row-major; `lda` … are the
    // distances of rows.
    void multiply(bool b_transposed, int64_t m, int64_t n, int64_t k, float scale, const float* a, int64_t lda,
                  const float* b, int64_t ldb, float keep, float* c, int64_t ldc) const;

    // Memory for one operation on one thread; goes back to be used again.
    class Scratch {
      public:
        Scratch(const Gemm& owner, size_t floats);
        ~Scratch();
        Scratch(const Scratch&) = delete;
        Scratch& operator=(const Scratch&) = delete;
        // The next `floats` of it.
        float* take(size_t floats);

      private:
        const Gemm& owner_;
        std::vector<float> memory_;
        size_t taken_ = 0;
    };
    // Gives memory back that no operation uses.
    void trim() const;

  private:
    using Product = void (*)(int, int, int, int, int, int, float, const float*, int, const float*, int, float, float*,
                             int);
    std::shared_ptr<void> library_;
    Product product_ = nullptr;
    mutable std::mutex mutex_;
    mutable std::vector<std::vector<float>> free_;
    mutable size_t made_ = 0;  // pieces of memory, in use or free
};

}  // namespace sdcpp
