// Packed weights in files: which weights are packed, and how, by marks and by the tensors beside them.
#pragma once

#include <set>
#include <span>
#include <string>

#include "io/tensor_file.h"
#include "weights/naming.h"

namespace sdcpp {

// The name of a format that the marks of a file tell and that cannot be read; "" if there is none. Throws
// SDCPP_BAD_FILE for marks that are no JSON.
std::string unreadable_format(const TensorFile& file);

// Gives each packed weight its packing, its true shape, and a type of codes. Marks tell the format of each layer apart:
// a tensor X.comfy_quant, or the layer's entry in the metadata; other makers' formats are told by the tensors beside
// X.weight. They stand in one of `files`, which are one file or the shards of one. Takes what stands beside packed
// weights out of the files. Returns the names of weights that are marked as scaled f8, so must get scales. Throws
// SDCPP_BAD_FILE for what is missing or of a wrong size, SDCPP_UNSUPPORTED_MODEL for other formats.
std::set<std::string> attach_packings(std::span<TensorFile* const> files, const Namings& namings);

// Throws SDCPP_UNSUPPORTED_MODEL if matrices of whole numbers are left that nothing tells the format of.
void require_packings(std::span<TensorFile* const> files);

}  // namespace sdcpp
