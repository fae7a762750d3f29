// Whether the networks of a model belong together.
#pragma once

#include <vector>

#include "families/family.h"

namespace sdcpp {

// Throws SDCPP_UNSUPPORTED_MODEL with what does not fit: channels of latents, the width of text states, inputs that are
// not supported.
void require_fit(const std::vector<NamedNetwork>& networks, const Family& family);

}  // namespace sdcpp
