// Looking up samplers, types and the like by name, with near names in the message when there is none.
#pragma once

#include <string>
#include <vector>

namespace sdcpp {

// `name` if it is one of `known`; else throws SDCPP_INVALID_ARGUMENT.
const std::string& require_name(const std::string& kind, const std::string& name,
                                const std::vector<std::string>& known);

}  // namespace sdcpp
