// What an adapter's file is for, by its tensors' names, if none of them fits to the model.
#pragma once

#include <string>

#include "io/tensor_file.h"
#include "weights/naming.h"

namespace sdcpp {

// The family of models that a LoRA was trained on, for people; "" if its names do not tell.
std::string adapter_title(const TensorFile& file);

// How programs name the layers of a transformer in a LoRA's file; `others` as in AdapterNaming.
AdapterNaming transformer_adapters(LayerAliases (*others)(const std::set<std::string>& layers));

}  // namespace sdcpp
