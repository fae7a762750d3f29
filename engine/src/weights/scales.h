// Scaled weights: files that keep matrices in f8, and beside each the factors of its values.
#pragma once

#include <set>
#include <span>
#include <string>
#include <string_view>

#include "io/tensor_file.h"
#include "weights/naming.h"

namespace sdcpp {

// Gives each tensor X.weight its factors, X.scale_weight, X.weight_scale or X.weight_scale_inv: one, one a row, or one
// for each 128 x 128 values. They stand in one of `files`, which are one file or the shards of one. f8 weights without
// any get those whose names differ by the usual prefixes alone. Takes factors out of the files, with other marks of
// such files; those that belong to no weight stay. Throws SDCPP_UNSUPPORTED_MODEL for factors of other shapes.
void attach_scales(std::span<TensorFile* const> files, const Namings& namings);

// Throws SDCPP_UNSUPPORTED_MODEL if, after that, f8 weights have no factors while factors belong to no weight, or
// SDCPP_BAD_FILE if the f8 weights of `marked` have none.
void require_scales(std::span<TensorFile* const> files, const std::set<std::string>& marked);

// `name` without the longest prefix under which files keep a component.
std::string_view without_prefix(std::string_view name, const Namings& namings);

}  // namespace sdcpp
