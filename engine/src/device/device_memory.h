// Bytes held on a device, by class, and the capacity that they must not pass.
#pragma once

#include <array>
#include <cstdint>
#include <limits>
#include <mutex>
#include <utility>

namespace sdcpp {

enum class MemoryClass { weights, slots, workspace, carries };

class DeviceMemory {
  public:
    static constexpr uint64_t unlimited = std::numeric_limits<uint64_t>::max();
    explicit DeviceMemory(uint64_t capacity_bytes) : capacity_(capacity_bytes) {}
    DeviceMemory(const DeviceMemory&) = delete;
    DeviceMemory& operator=(const DeviceMemory&) = delete;

    // Bytes taken for as long as it lives.
    class Lease {
      public:
        Lease() = default;
        Lease(DeviceMemory& memory, MemoryClass kind, uint64_t bytes) : memory_(&memory), kind_(kind), bytes_(bytes) {}
        Lease(Lease&& other) noexcept
            : memory_(std::exchange(other.memory_, nullptr)), kind_(other.kind_), bytes_(other.bytes_) {}
        Lease& operator=(Lease&& other) noexcept {
            std::swap(memory_, other.memory_);
            std::swap(kind_, other.kind_);
            std::swap(bytes_, other.bytes_);
            return *this;
        }
        ~Lease() {
            if (memory_) memory_->give_back(kind_, bytes_);
        }
        uint64_t bytes() const { return memory_ ? bytes_ : 0; }

      private:
        DeviceMemory* memory_ = nullptr;
        MemoryClass kind_ = MemoryClass::weights;
        uint64_t bytes_ = 0;
    };

    // Throws SDCPP_OUT_OF_MEMORY past the capacity.
    Lease take(MemoryClass kind, uint64_t bytes);

    struct Bytes {
        uint64_t total = 0;
        std::array<uint64_t, 4> by_class{};  // as MemoryClass counts
    };
    uint64_t held() const;
    uint64_t capacity() const { return capacity_; }
    // The peak since the last call, in all and of each class.
    Bytes take_peak();

  private:
    void give_back(MemoryClass kind, uint64_t bytes);

    uint64_t capacity_;
    mutable std::mutex mutex_;
    Bytes held_, peak_;
};

}  // namespace sdcpp
