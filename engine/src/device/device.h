// Devices from ggml's registry. No backend is named here but the CPU's, which is always there.
#pragma once

#include <ggml-backend.h>
#include <ggml-cpp.h>

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/calibration.h"
#include "base/clock.h"
#include "device/cores.h"
#include "device/device_memory.h"
#include "device/host_memory.h"
#include "device/thread_governor.h"
#include "nn/graph.h"

namespace sdcpp {

struct DeviceSpec;

struct DeviceInfo {
    std::string name, description;
    bool is_cpu = false;
    size_t free_bytes = 0, total_bytes = 0;
};

std::vector<DeviceInfo> list_devices();

struct BackendInfo {
    std::string name;
    size_t device_count = 0;
};

std::vector<BackendInfo> list_backends();
// The errors of backends that looked for devices, a line each.
const std::string& backend_trouble();

// A buffer on a device, counted for as long as it lives.
struct DeviceBuffer {
    DeviceMemory::Lease lease;
    HostPages pages{};  // the buffer's memory, on the CPU
    ggml_backend_buffer_ptr buffer;
    std::byte* data() const { return static_cast<std::byte*>(ggml_backend_buffer_get_base(buffer.get())); }
};

class Device {
  public:
    // `name` as in list_devices() (any case), or "auto": the first GPU, else the CPU. `threads` 0: the physical cores.
    // While `cancelled` is true, a computation under way stops at its next operation.
    // "simulated:vram=GIB,link=GB/S,slowdown=X", for tests and for trying plans, is the CPU in the part of a card: with
    // so much memory, behind a link of that speed, X times slower. "NAME:link=GB/S", for measuring slower links, slows
    // uploads to a device down to that speed.
    // `gemm`: for networks that are computed on the CPU.
    Device(const std::string& name, int threads, const std::atomic<bool>* cancelled, const GemmChoice& gemm = {});
    Device(const Device&) = delete;
    Device& operator=(const Device&) = delete;

    // Throws SDCPP_OUT_OF_MEMORY if it has to be started again, and cannot.
    ggml_backend_t backend();
    ggml_backend_dev_t handle() const { return handle_; }
    ggml_backend_buffer_type_t buffer_type() const { return ggml_backend_dev_buffer_type(handle_); }
    // Bytes that `weight` takes here, those included that kernels may read behind its rows.
    uint64_t weight_bytes(const ggml_tensor* weight) const {
        return ggml_backend_buft_get_alloc_size(buffer_type(), weight) + read_behind_;
    }
    // For tests: kernels may read so many bytes behind a weight, as those of GPUs do.
    void set_read_behind(uint64_t bytes) { read_behind_ = bytes; }
    const Kernels& kernels() const { return kernels_; }
    const std::string& name() const { return name_; }
    bool maps_host_memory() const { return maps_host_memory_; }
    bool is_cpu() const { return is_cpu_; }
    bool cancelled() const { return cancelled_->load(std::memory_order_relaxed); }
    DeviceMemory& memory() { return memory_; }
    // Bytes that can be taken now.
    uint64_t free_bytes() const;
    // Memory that the backend has taken in addition to what plans count: pools, workspaces of its libraries, recorded
    // graphs. They stay taken. 0 on the CPU.
    uint64_t backend_bytes() const { return backend_bytes_; }
    // Free memory and what networks hold: shrinks only by what the backend, or another program, takes.
    uint64_t unclaimed_bytes() const { return free_bytes() + memory_.held(); }
    // Counts the memory that the backend has taken since unclaimed_bytes() was `before`.
    void count_backend_bytes(uint64_t before);
    // Throws SDCPP_OUT_OF_MEMORY if the backend may not find the memory that a network's first runs make it take;
    // backends of GPUs end the process then. `pools`: what the network's operations take at most.
    void require_room(uint64_t pools) const;
    // Gives back the backend's memory, recorded graphs above all. It is taken again when it is needed.
    void restart_backend();

    // Throws SDCPP_OUT_OF_MEMORY.
    DeviceBuffer allocate(MemoryClass kind, uint64_t bytes);

    // Runs `graph`. Throws SDCPP_CANCELLED, SDCPP_OUT_OF_MEMORY or SDCPP_INTERNAL. On the CPU it stops between
    // operations, as if it were cancelled, when `must_stop` gives true, which is asked every now and then.
    void compute(ggml_cgraph* graph, const std::function<bool()>& must_stop = nullptr);

    // Whether uploads go through queues of their own during the compute; see UploadQueue.
    bool queues_uploads() const { return !is_cpu_ && !simulated_; }
    // The speed that uploads are slowed down to; 0: as fast as it goes.
    double paced_link_bytes_per_s() const { return paced_link_; }
    bool simulated() const { return simulated_; }

    struct Speed {
        double flops_per_s = 0, link_bytes_per_s = 0, dispatch_seconds = calibration::dispatch_seconds;
    };
    // Measured at the first call, in some tens of milliseconds, unless set_speed() was called.
    const Speed& speed();
    void set_speed(const Speed& speed) { speed_ = speed; }

  private:
    Device(const DeviceSpec& spec, int threads, const std::atomic<bool>* cancelled, const GemmChoice& gemm);
    void start_backend();
    void start_threads(int count);
    static bool stop_requested(void* device);
    void choose_convolutions();
    bool convolves_directly(ggml_type type);

    ggml_backend_dev_t handle_ = nullptr;
    std::shared_ptr<ggml_threadpool> threads_;  // the CPU's, kept because ggml would start them anew for every graph
    ggml_backend_ptr backend_;                  // null: it could not be started again after memory was short
    const std::function<bool()>* must_stop_ = nullptr;  // while a graph runs
    Clock::time_point asked_{};
    Kernels kernels_;
    std::string name_;
    const std::atomic<bool>* cancelled_;
    bool maps_host_memory_ = false, is_cpu_ = false, simulated_ = false;
    double paced_link_ = 0, slowdown_ = 1;
    DeviceMemory memory_;
    uint64_t backend_bytes_ = 0, read_behind_ = 0;
    Speed speed_;
    ThreadGovernor governor_;
    ggml_backend_set_n_threads_t set_threads_ = nullptr;  // null if the backend has none
};

}  // namespace sdcpp
