// Devices from ggml's registry. No backend is named here but the CPU's, which is always there.
#pragma once

#include <ggml-backend.h>
#include <ggml-cpp.h>

#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "nn/graph.h"
#include "runtime/thread_governor.h"

namespace sdcpp {

struct DeviceInfo {
    std::string name, description;
    bool is_cpu = false;
    size_t free_bytes = 0, total_bytes = 0;
};

std::vector<DeviceInfo> list_devices();

// The number of physical cores this process may run on.
int physical_cores();

class Device {
  public:
    // `name` as in list_devices() (any case), or "auto": the first GPU, else the CPU. `threads` 0: the physical cores.
    // While `cancelled` is true, a computation under way stops at its next operation.
    Device(const std::string& name, int threads, const std::atomic<bool>* cancelled);
    Device(const Device&) = delete;
    Device& operator=(const Device&) = delete;

    ggml_backend_t backend() const { return backend_.get(); }
    ggml_backend_dev_t handle() const { return handle_; }
    ggml_backend_buffer_type_t buffer_type() const { return ggml_backend_get_default_buffer_type(backend()); }
    const Kernels& kernels() const { return kernels_; }
    const std::string& name() const { return name_; }
    bool maps_host_memory() const { return maps_host_memory_; }
    bool is_cpu() const { return is_cpu_; }

    // Runs `graph`. Throws SDCPP_CANCELLED, SDCPP_OUT_OF_MEMORY or SDCPP_INTERNAL.
    void compute(ggml_cgraph* graph);

  private:
    ggml_backend_dev_t handle_ = nullptr;
    ggml_backend_ptr backend_;
    Kernels kernels_;
    std::string name_;
    const std::atomic<bool>* cancelled_;
    bool maps_host_memory_ = false, is_cpu_ = false;
    ThreadGovernor governor_;
    ggml_backend_set_n_threads_t set_threads_ = nullptr;  // the CPU has it
};

}  // namespace sdcpp
