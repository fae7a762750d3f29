// Products of the OpenBLAS of the package scipy-openblas32.
#pragma once

#include "kernels/products.h"

namespace sdcpp {

// Throws SDCPP_FILE_NOT_FOUND.
std::unique_ptr<Products> openblas_products(const std::string& library);

}  // namespace sdcpp
