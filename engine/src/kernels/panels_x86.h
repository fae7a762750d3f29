// GemmKernels for x86-64, one processor level a file.
#pragma once

#include "kernels/gemm_kernels.h"

#if defined(__x86_64__) && defined(__GNUC__)
#define SDCPP_X86_PRODUCTS

#include <cstddef>
#include <cstring>

namespace sdcpp {

std::unique_ptr<GemmKernels> avx2_kernels();
std::unique_ptr<GemmKernels> avx512_kernels();
std::unique_ptr<GemmKernels> avx512_bf16_kernels();

}  // namespace sdcpp

#endif
