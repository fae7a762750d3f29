// Matrix products for operations on the CPU: c = a b takes a's rows as they lie; b is packed once and used for many
// rows. A row's result does not depend on the others.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

namespace sdcpp {

class GemmKernels {
  public:
    // A unit is 32 bits: `pair` values, neighbours along k.
    using Unit = uint32_t;

    GemmKernels(int64_t pair, int64_t width);
    virtual ~GemmKernels();
    GemmKernels(const GemmKernels&) = delete;
    GemmKernels& operator=(const GemmKernels&) = delete;

    // Values in a unit. 1: f32, whose rows can be taken as units; 2: bf16, with sums in f32.
    int64_t pair() const { return pair_; }
    int64_t units(int64_t k) const { return (k + pair_ - 1) / pair_; }
    // Units that b [k, n] takes when packed.
    int64_t packed(int64_t k, int64_t n) const { return units(k) * ((n + width_ - 1) / width_ * width_); }

    // c [m, n] = a [m, units] b, added to c if `add`, else to `bias` [n] unless it is null. `lda` is the distance of
    // a's rows in units, `ldc` of c's in floats.
    virtual void multiply(int64_t m, int64_t n, int64_t units, const Unit* a, int64_t lda, const Unit* b, float* c,
                          int64_t ldc, const float* bias, bool add) const = 0;
    // For a's rows in memory of one's own: a distance at which they do not get in each other's way in the cache.
    static int64_t apart(int64_t units) { return units + (units % 512 == 0 ? 16 : 0); }
    // Packs b [k, n] from rows along n, `ld` floats apart.
    virtual void pack(const float* b, int64_t ld, int64_t k, int64_t n, Unit* out) const = 0;
    // Packs b [k, n] from its transpose: rows along k.
    virtual void pack_transposed(const float* b, int64_t ld, int64_t k, int64_t n, Unit* out) const = 0;
    // f32 only: columns [column, column + count) of row `row` of several packed matrices [k, n], each `apart` units
    // after the one before; theirs stand in rows of `values`, `ld` floats apart.
    virtual void place(const float* values, int64_t ld, int64_t matrices, int64_t row, int64_t column, int64_t count,
                       int64_t k, int64_t n, Unit* packed, int64_t apart) const = 0;
    // A row of k floats as units.
    virtual void convert(const float* row, int64_t k, Unit* out) const = 0;

  private:
    int64_t pair_, width_;
};

// `kind`: "avx2" or "avx512", kernels of our own; "openblas", from `library`, the file that the package
// scipy-openblas32 has; "" for the best on this processor. Throws SDCPP_INVALID_ARGUMENT if the processor lacks it,
// SDCPP_FILE_NOT_FOUND.
std::unique_ptr<GemmKernels> f32_gemm_kernels(const std::string& kind, const std::string& library);
// Null if the processor does not compute with bf16.
std::unique_ptr<GemmKernels> bf16_gemm_kernels();

}  // namespace sdcpp
