#include "kernels/panels_x86.h"

#if defined(SDCPP_X86_PRODUCTS)

#include <immintrin.h>

#include <utility>

// To the end of the file, since templates are made there.
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512bf16,fma,avx2"))), \
                             apply_to = function)
#else
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // within GCC's own headers
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,avx512bf16,fma,avx2")
#endif

namespace sdcpp {
namespace {

using Unit = GemmKernels::Unit;

#include "kernels/panel_avx512.h"

struct Isa : Avx512 {
    using Units = __m512bh;
    static constexpr int64_t pair = 2;

    static Units load_units(const Unit* p) { return reinterpret_cast<Units>(_mm512_loadu_si512(p)); }
    static Units broadcast(const Unit* p) { return reinterpret_cast<Units>(_mm512_set1_epi32(static_cast<int>(*p))); }
    static Vector multiply_add(Vector sum, Units x, Units y) { return _mm512_dpbf16_ps(sum, x, y); }

    static __m512i widened(const float* p) {
        return _mm512_cvtepu16_epi32(reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(_mm512_loadu_ps(p))));
    }
    // Values of two rows side by side; `second` null: zeros.
    static void pack(const float* first, const float* second, Unit* out) {
        __m512i both = widened(first);
        if (second) both = _mm512_or_si512(both, _mm512_slli_epi32(widened(second), 16));
        _mm512_storeu_si512(out, both);
    }
    static void line(const float* row, Unit* out) { convert(row, 2 * width, out); }
    static void convert(const float* row, int64_t k, Unit* out) {
        auto* values = reinterpret_cast<std::byte*>(out);
        int64_t i = 0;
        for (; i + 32 <= k; i += 32, values += 64)
            _mm512_storeu_si512(values, reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(_mm512_loadu_ps(row + i + 16),
                                                                                      _mm512_loadu_ps(row + i))));
        for (; i < k; i += 16) {
            const int64_t left = k - i < 16 ? k - i : 16;
            const auto narrow = reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(load(row + i, left)));
            _mm256_mask_storeu_epi16(values, first(left + left % 2), narrow);
            values += 32;
        }
    }
};

#include "kernels/panel_kernel.h"

}  // namespace

std::unique_ptr<GemmKernels> avx512_bf16_kernels() { return std::make_unique<PanelKernels>(); }

}  // namespace sdcpp

#if defined(__clang__)
#pragma clang attribute pop
#endif

#endif
