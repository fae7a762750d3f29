// Canonical tensor names: every component has one naming in the engine, the original checkpoints' for diffusion models
// and autoencoders (`vae.decoder.conv_in.weight`), transformers' for text encoders. Files in other namings are mapped
// to it, and tensors that hold several are cut.
#pragma once

#include <string>
#include <vector>

#include "weights/naming.h"

namespace sdcpp {

struct NamedTensor {
    std::string name;  // canonical
    TensorInfo tensor;
};

// A user's word for a file: a component's name or a kind's, or "" if its own names show it. `slot`: see FileNames.
struct FileRole {
    std::string part, slot;
};

// Tensors of `file` under their canonical names, without those that no component uses. If a component is of the kind
// given but of no known sort, its tensors begin with "unknown.". Tensors that only mark how a model was trained
// ("v_pred") begin with "mark.". Throws SDCPP_INVALID_ARGUMENT if `role` names no component or kind.
std::vector<NamedTensor> canonical_tensors(const TensorFile& file, const FileRole& role, const Namings& namings);

}  // namespace sdcpp
