// LoRA and its kin on a model's weights.
#pragma once

#include <vector>

#include "pipeline/model.h"

namespace sdcpp {

// The adapters of these choices, and no others, are in use from now on. Weights that they change, or that earlier ones
// changed, are loaded again at their next use. Returns what was matched: see sdcpp_set_adapters. Throws
// SDCPP_INVALID_ARGUMENT, SDCPP_FILE_NOT_FOUND, SDCPP_BAD_FILE, SDCPP_UNSUPPORTED_MODEL; then those in use stay so.
Json set_adapters(Model& model, const std::vector<AdapterChoice>& choices);

}  // namespace sdcpp
