#include "device/device_memory.h"

#include <algorithm>

#include "base/error.h"

namespace sdcpp {

DeviceMemory::Lease DeviceMemory::take(MemoryClass kind, uint64_t bytes) {
    const std::scoped_lock lock(mutex_);
    if (bytes > capacity_ - std::min(capacity_, held_.total))
        fail(SDCPP_OUT_OF_MEMORY, "the device holds ", held_.total >> 20, " MiB of ", capacity_ >> 20,
             " MiB and cannot take ", bytes >> 20, " MiB more");
    held_.total += bytes;
    held_.by_class[static_cast<size_t>(kind)] += bytes;
    peak_.total = std::max(peak_.total, held_.total);
    for (size_t i = 0; i < held_.by_class.size(); ++i)
        peak_.by_class[i] = std::max(peak_.by_class[i], held_.by_class[i]);
    return {*this, kind, bytes};
}

void DeviceMemory::give_back(MemoryClass kind, uint64_t bytes) {
    const std::scoped_lock lock(mutex_);
    held_.total -= bytes;
    held_.by_class[static_cast<size_t>(kind)] -= bytes;
}

uint64_t DeviceMemory::held() const {
    const std::scoped_lock lock(mutex_);
    return held_.total;
}

DeviceMemory::Bytes DeviceMemory::take_peak() {
    const std::scoped_lock lock(mutex_);
    return std::exchange(peak_, held_);
}

}  // namespace sdcpp
