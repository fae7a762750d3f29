// GemmKernels of the OpenBLAS of the package scipy-openblas32.
#pragma once

#include "kernels/gemm_kernels.h"

namespace sdcpp {

// Throws SDCPP_FILE_NOT_FOUND.
std::unique_ptr<GemmKernels> openblas_kernels(const std::string& library);

}  // namespace sdcpp
