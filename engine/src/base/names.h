// Looking up samplers, types and the like by name, with near names in the message when there is none.
#pragma once

#include <string>
#include <vector>

#include "base/error.h"

namespace sdcpp {

// `name` if it is one of `known`; else throws SDCPP_INVALID_ARGUMENT. `kind` says what has names; or an option has
// them.
const std::string& require_name(const char* kind, const std::string& name, const std::vector<std::string>& known);
const std::string& require_name(OptionName option, const std::string& name, const std::vector<std::string>& known);

// The first three names for a message, and whether there are more.
std::string first_few(const std::vector<std::string>& names);

}  // namespace sdcpp
