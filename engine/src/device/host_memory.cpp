#include "device/host_memory.h"

#include <algorithm>
#include <fstream>
#include <limits>
#include <string>

#include "device/control_groups.h"

#ifdef __GLIBC__
#include <malloc.h>
#endif
#ifndef _WIN32
#include <sys/mman.h>
#include <unistd.h>
#endif

namespace sdcpp {
namespace {

constexpr size_t unlimited = std::numeric_limits<size_t>::max();

// The number in a file, `unlimited` if it has none ("max").
size_t number_in(const std::string& path) {
    std::ifstream in(path);
    size_t value = 0;
    return in >> value ? value : unlimited;
}

// Bytes that a control group's limit leaves. File pages count as used there, but the system can take them back.
size_t group_room(const std::string& folder, const char* limit, const char* usage) {
    const size_t most = number_in(folder + limit), used = number_in(folder + usage);
    if (most == unlimited || used == unlimited) return unlimited;
    size_t pages = 0;
    std::ifstream in(folder + "memory.stat");
    std::string key;
    for (size_t value = 0; in >> key >> value;)
        if (key == "inactive_file" || key == "active_file") pages += value;
    return most - std::min(most, used - std::min(used, pages));
}

}  // namespace

size_t host_available_bytes() {
    size_t room = unlimited;
    std::ifstream in("/proc/meminfo");
    std::string key, unit;
    for (size_t value = 0; in >> key >> value && std::getline(in, unit);)
        if (key == "MemAvailable:") room = value * 1024;
    for (const std::string& folder : control_groups("memory")) {
        room = std::min(room, group_room(folder, "memory.max", "memory.current"));
        room = std::min(room, group_room(folder, "memory.limit_in_bytes", "memory.usage_in_bytes"));
    }
    return room;
}

size_t process_resident_bytes() {
#ifdef __linux__
    std::ifstream in("/proc/self/statm");
    size_t size = 0, resident = 0;
    if (in >> size >> resident) return resident * static_cast<size_t>(::sysconf(_SC_PAGESIZE));
#endif
    return 0;
}

void PagesGoBack::operator()([[maybe_unused]] std::byte* start) const {
#ifndef _WIN32
    ::munmap(start, bytes);
#endif
}

HostPages take_host_pages([[maybe_unused]] size_t bytes) {
#ifndef _WIN32
    void* start = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (start != MAP_FAILED) return {static_cast<std::byte*>(start), PagesGoBack{bytes}};
#endif
    return {};
}

void give_back_freed_memory() {
#ifdef __GLIBC__
    malloc_trim(0);
#endif
}

}  // namespace sdcpp
