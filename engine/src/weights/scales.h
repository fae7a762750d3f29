// Scaled weights: files that keep matrices in f8, and beside each the factors of its values.
#pragma once

#include "io/tensor_file.h"

namespace sdcpp {

// Gives each tensor X.weight the factors that stand beside it, as X.scale_weight, X.weight_scale or X.weight_scale_inv:
// one, one a row, or one for each 128 x 128 values. Takes them out of the file, with the other marks of such files.
// Throws SDCPP_UNSUPPORTED_MODEL for factors of other shapes.
void attach_scales(TensorFile& file);

}  // namespace sdcpp
