#include "runtime/device.h"

#include <algorithm>
#include <cctype>
#include <fstream>
#include <mutex>
#include <set>
#include <thread>

#ifdef __linux__
#include <sched.h>
#endif

#include "base/error.h"
#include "base/log.h"

namespace sdcpp {
namespace {

bool same_name(const std::string& a, const std::string& b) {
    return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                      [](unsigned char x, unsigned char y) { return std::tolower(x) == std::tolower(y); });
}

// ggml built with loadable backends registers none until told to; the packaged build registers its own at start.
void ensure_backends() {
    static std::once_flag once;
    std::call_once(once, [] {
        ggml_log_set(
            [](ggml_log_level level, const char* text, void*) {
                std::string line(text);
                while (!line.empty() && line.back() == '\n') line.pop_back();
                if (line.empty()) return;
                log(level == GGML_LOG_LEVEL_ERROR  ? SDCPP_LOG_ERROR
                    : level == GGML_LOG_LEVEL_WARN ? SDCPP_LOG_WARNING
                                                   : SDCPP_LOG_DEBUG,
                    line);
            },
            nullptr);
        if (ggml_backend_dev_count() == 0) ggml_backend_load_all();
    });
}

ggml_backend_dev_t choose(const std::string& name) {
    ensure_backends();
    const size_t count = ggml_backend_dev_count();
    std::string known;
    for (size_t i = 0; i < count; ++i) {
        ggml_backend_dev_t device = ggml_backend_dev_get(i);
        if (same_name(name, ggml_backend_dev_name(device))) return device;
        known += std::string(known.empty() ? "" : ", ") + ggml_backend_dev_name(device);
    }
    if (!same_name(name, "auto"))
        fail(SDCPP_INVALID_ARGUMENT, "no device named '", name, "'; there are: auto, ", known);
    for (const auto type : {GGML_BACKEND_DEVICE_TYPE_GPU, GGML_BACKEND_DEVICE_TYPE_IGPU, GGML_BACKEND_DEVICE_TYPE_CPU})
        if (ggml_backend_dev_t device = ggml_backend_dev_by_type(type)) return device;
    fail(SDCPP_INTERNAL, "ggml offers no device");
}

template <typename Function>
Function device_function(ggml_backend_dev_t device, const char* name) {
    return reinterpret_cast<Function>(ggml_backend_reg_get_proc_address(ggml_backend_dev_backend_reg(device), name));
}

bool stop_requested(void* flag) { return static_cast<const std::atomic<bool>*>(flag)->load(std::memory_order_relaxed); }

}  // namespace

std::vector<DeviceInfo> list_devices() {
    ensure_backends();
    std::vector<DeviceInfo> out;
    for (size_t i = 0; i < ggml_backend_dev_count(); ++i) {
        ggml_backend_dev_t device = ggml_backend_dev_get(i);
        DeviceInfo info;
        info.name = ggml_backend_dev_name(device);
        info.description = ggml_backend_dev_description(device);
        info.is_cpu = ggml_backend_dev_type(device) == GGML_BACKEND_DEVICE_TYPE_CPU;
        ggml_backend_dev_memory(device, &info.free_bytes, &info.total_bytes);
        out.push_back(std::move(info));
    }
    return out;
}

int physical_cores() {
    const int all = std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
#ifdef __linux__
    cpu_set_t allowed;
    CPU_ZERO(&allowed);
    if (sched_getaffinity(0, sizeof allowed, &allowed) != 0) return all;
    std::set<std::string> cores;  // processors that share a core name the same siblings
    for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
        if (!CPU_ISSET(cpu, &allowed)) continue;
        std::ifstream in("/sys/devices/system/cpu/cpu" + std::to_string(cpu) + "/topology/thread_siblings_list");
        std::string siblings;
        if (!std::getline(in, siblings)) return std::max(1, CPU_COUNT(&allowed));
        cores.insert(siblings);
    }
    return std::max(1, static_cast<int>(cores.size()));
#else
    return all;
#endif
}

Device::Device(const std::string& name, int threads, const std::atomic<bool>* cancelled)
    : handle_(choose(name)), cancelled_(cancelled), governor_(threads > 0 ? threads : physical_cores()) {
    name_ = ggml_backend_dev_name(handle_);
    backend_.reset(ggml_backend_dev_init(handle_, nullptr));
    if (!backend_) fail(SDCPP_INTERNAL, "device ", name_, " cannot be started; is it in use, or its driver missing?");
    ggml_backend_dev_props props{};
    ggml_backend_dev_get_props(handle_, &props);
    is_cpu_ = ggml_backend_dev_type(handle_) == GGML_BACKEND_DEVICE_TYPE_CPU;
    maps_host_memory_ = is_cpu_ && props.caps.buffer_from_host_ptr;
    set_threads_ = device_function<ggml_backend_set_n_threads_t>(handle_, "ggml_backend_set_n_threads");
    if (const auto set_abort =
            device_function<ggml_backend_set_abort_callback_t>(handle_, "ggml_backend_set_abort_callback"))
        set_abort(backend(), stop_requested, const_cast<std::atomic<bool>*>(cancelled_));
    kernels_.supports = [device = handle_](const ggml_tensor* op) { return ggml_backend_dev_supports_op(device, op); };
}

void Device::compute(ggml_cgraph* graph) {
    if (cancelled_->load()) fail(SDCPP_CANCELLED, "cancelled");
    const ThreadGovernor::Turn turn(governor_);
    if (set_threads_) set_threads_(backend(), turn.threads());
    switch (ggml_backend_graph_compute(backend(), graph)) {
        case GGML_STATUS_SUCCESS:
            return;
        case GGML_STATUS_ABORTED:
            fail(SDCPP_CANCELLED, "cancelled");
        case GGML_STATUS_ALLOC_FAILED:
            fail(SDCPP_OUT_OF_MEMORY, "device ", name_, " ran out of memory");
        case GGML_STATUS_FAILED:
            break;
    }
    fail(SDCPP_INTERNAL, "device ", name_, " failed to compute");
}

}  // namespace sdcpp
