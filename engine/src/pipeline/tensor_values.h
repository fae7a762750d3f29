// One tensor of a file, for those who need its numbers and no network.
#pragma once

#include <filesystem>
#include <string>

#include "nn/array.h"

namespace sdcpp {

// The tensor's values as f32. Throws SDCPP_INVALID_ARGUMENT if the file has none of this name, or more than 2^28 values
// in it.
Array tensor_values(const std::filesystem::path& path, const std::string& name);

}  // namespace sdcpp
