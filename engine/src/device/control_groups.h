// The control groups that bound this process, such as a container's.
#pragma once

#include <string>
#include <vector>

namespace sdcpp {

// Folders, each with a slash at its end, whose files hold the limits of `controller` ("memory", "cpu"): the process's
// own group, those above it, and a container's root. Files of either version of control groups may be
// there.
std::vector<std::string> control_groups(const std::string& controller);

}  // namespace sdcpp
