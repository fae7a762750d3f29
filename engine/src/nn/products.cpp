#include "nn/products.h"

#include "nn/panels_x86.h"

namespace sdcpp {

std::unique_ptr<Products> own_f32_products() {
#if defined(SDCPP_X86_PRODUCTS)
    // AMD's first generation with AVX-512 (Zen 4) computes 512 bits in two turns: nothing is gained by them.
    const bool halves = __builtin_cpu_is("amd") && !__builtin_cpu_supports("avx512vp2intersect");
    if (!halves && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
        __builtin_cpu_supports("avx512dq"))
        return avx512_products();
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return avx2_products();
#endif
    return nullptr;
}

std::unique_ptr<Products> own_bf16_products() {
#if defined(SDCPP_X86_PRODUCTS)
    if (__builtin_cpu_supports("avx512bf16") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq"))
        return avx512_bf16_products();
#endif
    return nullptr;
}

}  // namespace sdcpp
