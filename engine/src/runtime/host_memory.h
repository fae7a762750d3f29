// How much memory the host can still give. A system that overcommits grants more than it has and then kills the
// process, so what is large is compared with this first.
#pragma once

#include <cstddef>

namespace sdcpp {

// Bytes that can be taken without swapping or passing a control group's limit; the largest size_t where the system does
// not say.
size_t host_available_bytes();

}  // namespace sdcpp
