// What an adapter's file is for, by its tensors' names, if none of them fits to the model.
#pragma once

#include <string>

#include "io/tensor_file.h"

namespace sdcpp {

// The family of models that a LoRA was trained on, for people; "" if its names do not tell.
std::string adapter_title(const TensorFile& file);

}  // namespace sdcpp
