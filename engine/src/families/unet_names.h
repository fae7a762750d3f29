// diffusers' names of a UNet's layers.
#pragma once

#include <set>
#include <string>

namespace sdcpp {

// The original numbering of UNet2DConditionModel's blocks, `layers` a level; `attending`: the levels whose upsampling
// comes third.
std::string unet_name(const std::string& full, int layers, const std::set<int>& attending);

}  // namespace sdcpp
