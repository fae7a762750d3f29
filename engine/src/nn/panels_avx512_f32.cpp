#include "nn/panels_x86.h"

#if defined(SDCPP_X86_PRODUCTS)

#include <immintrin.h>

#include <utility>

// To the end of the file, since templates are made there.
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,fma,avx2"))), \
                             apply_to = function)
#else
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // within GCC's own headers
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,fma,avx2")
#endif

namespace sdcpp {
namespace {

using Unit = Products::Unit;

#include "nn/panel_turn_avx512.h"

struct Isa {
    using Vector = __m512;
    using Units = __m512;
    static constexpr int64_t pair = 1, width = 16, rows = 12;

    static Vector zero() { return _mm512_setzero_ps(); }
    static Vector load(const float* p) { return _mm512_loadu_ps(p); }
    static void store(float* p, Vector v) { _mm512_storeu_ps(p, v); }
    static __mmask16 first(int64_t count) { return static_cast<__mmask16>((1u << count) - 1); }
    static Vector load(const float* p, int64_t count) { return _mm512_maskz_loadu_ps(first(count), p); }
    static void store(float* p, Vector v, int64_t count) { _mm512_mask_storeu_ps(p, first(count), v); }
    static Units load_units(const Unit* p) { return _mm512_loadu_ps(p); }
    static Units broadcast(const Unit* p) {
        float x;
        std::memcpy(&x, p, sizeof x);
        return _mm512_set1_ps(x);
    }
    static Vector multiply_add(Vector sum, Units x, Units y) { return _mm512_fmadd_ps(x, y, sum); }

    static void line(const float* row, Unit* out) { _mm512_storeu_ps(out, _mm512_loadu_ps(row)); }
    static void pack(const float* row, const float*, Unit* out) { line(row, out); }
    static void convert(const float* row, int64_t k, Unit* out) {
        std::memcpy(out, row, static_cast<size_t>(k) * sizeof(Unit));
    }
    static void turn_over(const Unit* lines, Unit* out, int64_t count) { turn_over_16(lines, out, count); }
};

#include "nn/panel_kernel.h"

}  // namespace

std::unique_ptr<Products> avx512_products() { return std::make_unique<PanelProducts>(); }

}  // namespace sdcpp

#if defined(__clang__)
#pragma clang attribute pop
#endif

#endif
