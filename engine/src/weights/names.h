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

// What a file was given as: a component's name or a kind's, or "" if its own names say it. `slot`: see FileNames.
struct FileRole {
    std::string part, slot;
};

// Tensors of `file` under their canonical names. Those that no component uses are left out; those of a component that
// is of the kind given but of no known sort begin with "unknown."; those that stand alone and mark how a model was
// trained ("v_pred") begin with "mark.". Throws SDCPP_INVALID_ARGUMENT if `role` names no component or kind.
std::vector<NamedTensor> canonical_tensors(const TensorFile& file, const FileRole& role, const Namings& namings);

}  // namespace sdcpp
