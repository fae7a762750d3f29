// Files that are given as a model and cannot be used as one, by names that tell: other families, add-ons, number
// formats, and marks of models whose mathematics differ.
#pragma once

#include <string>

#include "weights/model_files.h"

namespace sdcpp {

// The title of a file that cannot be used, such as "a LoRA"; "" if nothing shows that.
std::string strange_title(const TensorFile& file);

// Throws SDCPP_UNSUPPORTED_MODEL with what the file is and what to do; a FileCheck for ModelFiles.
void refuse_strangers(const TensorFile& file, const ModelPath& path);

// Whether a tensor of this name, in a file or canonical, is known to have no use for making pictures.
bool is_leftover(std::string_view name);

}  // namespace sdcpp
