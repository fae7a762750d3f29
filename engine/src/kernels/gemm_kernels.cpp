#include "kernels/gemm_kernels.h"

#include "base/error.h"
#include "kernels/openblas.h"
#include "kernels/panels_x86.h"

namespace sdcpp {

GemmKernels::GemmKernels(int64_t pair, int64_t width) : pair_(pair), width_(width) {}
GemmKernels::~GemmKernels() = default;

std::unique_ptr<GemmKernels> f32_gemm_kernels(const std::string& kind, const std::string& library) {
#if defined(SDCPP_X86_PRODUCTS)
    const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    const bool avx512 =
        __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
    // AMD's first generation with AVX-512 (Zen 4) computes 512 bits in two turns: nothing is gained by them.
    const bool halves = __builtin_cpu_is("amd") && !__builtin_cpu_supports("avx512vp2intersect");
    if (avx512 && (kind == "avx512" || (kind.empty() && !halves))) return avx512_kernels();
    if (avx2 && (kind == "avx2" || kind.empty())) return avx2_kernels();
#endif
    if (!kind.empty() && kind != "openblas")
        fail(SDCPP_INVALID_ARGUMENT, "this processor has no matrix products of kind '", kind,
             "'; there are avx2, avx512 and openblas");
    return openblas_kernels(library);
}

std::unique_ptr<GemmKernels> bf16_gemm_kernels() {
#if defined(SDCPP_X86_PRODUCTS)
    if (__builtin_cpu_supports("avx512bf16") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq"))
        return avx512_bf16_kernels();
#endif
    return nullptr;
}

}  // namespace sdcpp
