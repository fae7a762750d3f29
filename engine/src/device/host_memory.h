// The memory that the host can still give. A system that overcommits grants more than it has and then kills the
// process, so large allocations are compared with this first.
#pragma once

#include <cstddef>
#include <memory>

namespace sdcpp {

// Bytes that can be taken without swapping or passing a control group's limit; the largest size_t if the system does
// not say.
size_t host_available_bytes();

// Bytes of this process that are in memory, pages of mapped files included; 0 if the system does not say.
size_t process_resident_bytes();

// Whole pages from the system, which go back to it as soon as they are freed: a C library may keep smaller
// pieces. Null if there are none, or no such call.
struct PagesGoBack {
    size_t bytes = 0;
    void operator()(std::byte* start) const;
};
using HostPages = std::unique_ptr<std::byte, PagesGoBack>;
HostPages take_host_pages(size_t bytes);

// Gives freed memory that the C library keeps back to the system, if the library can.
void give_back_freed_memory();

}  // namespace sdcpp
