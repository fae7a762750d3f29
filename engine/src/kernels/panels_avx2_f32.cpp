#include "kernels/panels_x86.h"

#if defined(SDCPP_X86_PRODUCTS)

#include <immintrin.h>

#include <utility>

// To the end of the file, since templates are made there.
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // within GCC's own headers
#pragma GCC target("avx2,fma")
#endif

namespace sdcpp {
namespace {

using Unit = GemmKernels::Unit;

struct Isa {
    using Vector = __m256;
    using Units = __m256;
    static constexpr int64_t pair = 1, width = 8, rows = 6;

    static Vector zero() { return _mm256_setzero_ps(); }
    static Vector load(const float* p) { return _mm256_loadu_ps(p); }
    static void store(float* p, Vector v) { _mm256_storeu_ps(p, v); }
    static __m256i first(int64_t count) {
        return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(count)),
                                  _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
    }
    static Vector load(const float* p, int64_t count) { return _mm256_maskload_ps(p, first(count)); }
    static void store(float* p, Vector v, int64_t count) { _mm256_maskstore_ps(p, first(count), v); }
    static Units load_units(const Unit* p) { return _mm256_loadu_ps(reinterpret_cast<const float*>(p)); }
    static Units broadcast(const Unit* p) {
        float x;
        std::memcpy(&x, p, sizeof x);
        return _mm256_set1_ps(x);
    }
    static Vector multiply_add(Vector sum, Units x, Units y) { return _mm256_fmadd_ps(x, y, sum); }

    static void line(const float* row, Unit* out) {
        _mm256_storeu_ps(reinterpret_cast<float*>(out), _mm256_loadu_ps(row));
    }
    static void pack(const float* row, const float*, Unit* out) { line(row, out); }
    static void convert(const float* row, int64_t k, Unit* out) {
        std::memcpy(out, row, static_cast<size_t>(k) * sizeof(Unit));
    }
    // 8 lines of 8 units; `count` columns become lines.
    static void turn_over(const Unit* lines, Unit* out, int64_t count) {
        __m256 a[8], b[8];
        for (int i = 0; i < 8; ++i) a[i] = load_units(lines + 8 * i);
        for (int i = 0; i < 8; i += 2) {
            b[i] = _mm256_unpacklo_ps(a[i], a[i + 1]);
            b[i + 1] = _mm256_unpackhi_ps(a[i], a[i + 1]);
        }
        for (int i = 0; i < 8; i += 4) {
            a[i] = _mm256_shuffle_ps(b[i], b[i + 2], 0x44);
            a[i + 1] = _mm256_shuffle_ps(b[i], b[i + 2], 0xee);
            a[i + 2] = _mm256_shuffle_ps(b[i + 1], b[i + 3], 0x44);
            a[i + 3] = _mm256_shuffle_ps(b[i + 1], b[i + 3], 0xee);
        }
        for (int i = 0; i < 4; ++i) {
            b[i] = _mm256_permute2f128_ps(a[i], a[4 + i], 0x20);
            b[4 + i] = _mm256_permute2f128_ps(a[i], a[4 + i], 0x31);
        }
        for (int64_t i = 0; i < count; ++i) _mm256_storeu_ps(reinterpret_cast<float*>(out + 8 * i), b[i]);
    }
};

#include "kernels/panel_kernel.h"

}  // namespace

std::unique_ptr<GemmKernels> avx2_kernels() { return std::make_unique<PanelKernels>(); }

}  // namespace sdcpp

#if defined(__clang__)
#pragma clang attribute pop
#endif

#endif
