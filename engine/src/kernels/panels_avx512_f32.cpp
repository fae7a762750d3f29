#include "kernels/panels_x86.h"

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

using Unit = GemmKernels::Unit;

#include "kernels/panel_avx512.h"

struct Isa : Avx512 {
    using Units = __m512;
    static constexpr int64_t pair = 1;

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
};

#include "kernels/panel_kernel.h"

}  // namespace

std::unique_ptr<GemmKernels> avx512_kernels() { return std::make_unique<PanelKernels>(); }

}  // namespace sdcpp

#if defined(__clang__)
#pragma clang attribute pop
#endif

#endif
