#include "runtime/device.h"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <fstream>
#include <mutex>
#include <set>
#include <thread>

#ifdef __linux__
#include <sched.h>
#endif

#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "nn/cpu_operations.h"

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

constexpr std::string_view simulated_prefix = "simulated";

struct Simulated {
    double vram_gib = 0, link_gb_per_s = 0, slowdown = 1;
};

// "simulated" or "simulated:vram=6,link=12,slowdown=2".
Simulated parse_simulated(std::string_view text) {
    Simulated out;
    text.remove_prefix(simulated_prefix.size());
    if (!text.empty()) text.remove_prefix(1);
    while (!text.empty()) {
        const std::string_view part = text.substr(0, text.find(','));
        text.remove_prefix(std::min(text.size(), part.size() + 1));
        const size_t equals = part.find('=');
        const std::string_view key = part.substr(0, equals);
        double value = -1;
        if (equals != std::string_view::npos) {
            const char* end = part.data() + part.size();
            if (const auto [at, problem] = std::from_chars(part.data() + equals + 1, end, value);
                problem != std::errc() || at != end)
                value = -1;
        }
        double* target = key == "vram"       ? &out.vram_gib
                         : key == "link"     ? &out.link_gb_per_s
                         : key == "slowdown" ? &out.slowdown
                                             : nullptr;
        if (!target || !(value > 0) || value > 1e6 || (key == "slowdown" && value < 1))
            fail(SDCPP_INVALID_ARGUMENT, "'", part,
                 "' cannot be part of a simulated device; an example: simulated:vram=6,link=12,slowdown=2 (GiB, GB/s, "
                 "at "
                 "least 1)");
        *target = value;
    }
    return out;
}

bool is_simulated(const std::string& name) {
    return name.size() >= simulated_prefix.size() &&
           same_name(name.substr(0, simulated_prefix.size()), std::string(simulated_prefix)) &&
           (name.size() == simulated_prefix.size() || name[simulated_prefix.size()] == ':');
}

uint64_t capacity_of(const std::string& name) {
    if (!is_simulated(name)) return DeviceMemory::unlimited;
    const double gib = parse_simulated(name).vram_gib;
    return gib > 0 ? static_cast<uint64_t>(gib * (1 << 30)) : DeviceMemory::unlimited;
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

Device::Device(const std::string& name, int threads, const std::atomic<bool>* cancelled, const ProductsChoice& products)
    : handle_(choose(is_simulated(name) ? "CPU" : name)),
      cancelled_(cancelled),
      memory_(capacity_of(name)),
      governor_(threads > 0 ? threads : physical_cores()) {
    name_ = ggml_backend_dev_name(handle_);
    backend_.reset(ggml_backend_dev_init(handle_, nullptr));
    if (!backend_) fail(SDCPP_INTERNAL, "device ", name_, " cannot be started; is it in use, or its driver missing?");
    ggml_backend_dev_props props{};
    ggml_backend_dev_get_props(handle_, &props);
    is_cpu_ = ggml_backend_dev_type(handle_) == GGML_BACKEND_DEVICE_TYPE_CPU;
    if (is_simulated(name)) {
        const Simulated simulated = parse_simulated(name);
        simulated_ = true;
        is_cpu_ = false;
        name_ = simulated_prefix;
        simulated_link_ = simulated.link_gb_per_s * 1e9;
        slowdown_ = simulated.slowdown;
    }
    maps_host_memory_ = is_cpu_ && props.caps.buffer_from_host_ptr;
    set_threads_ = device_function<ggml_backend_set_n_threads_t>(handle_, "ggml_backend_set_n_threads");
    if (const auto set_abort =
            device_function<ggml_backend_set_abort_callback_t>(handle_, "ggml_backend_set_abort_callback"))
        set_abort(backend(), stop_requested, const_cast<std::atomic<bool>*>(cancelled_));
    if (!products.library.empty() && ggml_backend_dev_type(handle_) == GGML_BACKEND_DEVICE_TYPE_CPU) {
        kernels_.gemm = std::make_shared<Gemm>(products);
        if (products.bf16 && kernels_.gemm->large().pair() == 1)
            log(SDCPP_LOG_WARNING, "this processor does not compute with bf16: matrices are multiplied in f32");
        kernels_.cancelled = cancelled_;
        if (is_cpu_) kernels_.threads = governor_.threads();
        kernels_.failed = std::make_shared<std::atomic<bool>>(false);
    }
    start_threads(governor_.threads());
    kernels_.supports = [device = handle_](const ggml_tensor* op) { return ggml_backend_dev_supports_op(device, op); };
}

void Device::start_threads(int count) {
    using New = ggml_threadpool* (*)(ggml_threadpool_params*);
    using Free = void (*)(ggml_threadpool*);
    using Use = void (*)(ggml_backend_t, ggml_threadpool*);
    const auto create = device_function<New>(handle_, "ggml_threadpool_new");
    const auto destroy = device_function<Free>(handle_, "ggml_threadpool_free");
    const auto use = device_function<Use>(handle_, "ggml_backend_cpu_set_threadpool");
    if (!create || !destroy || !use || count < 2) return;
    ggml_threadpool_params params;
    ggml_threadpool_params_init(&params, count);
    params.poll = 0;  // between graphs they sleep
    threads_ = {create(&params), destroy};
    use(backend(), threads_.get());
}

uint64_t Device::free_bytes() const {
    if (memory_.capacity() != DeviceMemory::unlimited) return memory_.capacity() - memory_.held();
    if (is_cpu_ || simulated_) return host_available_bytes();
    size_t free = 0, total = 0;
    ggml_backend_dev_memory(handle_, &free, &total);
    return free;
}

DeviceBuffer Device::allocate(MemoryClass kind, uint64_t bytes) {
    DeviceBuffer out;
    if ((is_cpu_ || simulated_) && bytes > host_available_bytes())
        fail(SDCPP_OUT_OF_MEMORY, bytes >> 20, " MiB are not free in this machine's memory");
    out.lease = memory_.take(kind, bytes);
    bytes = std::max<uint64_t>(bytes, 1);
    if (is_cpu_ || simulated_) out.pages = take_host_pages(bytes);
    out.buffer.reset(out.pages ? ggml_backend_dev_buffer_from_host_ptr(handle_, out.pages.get(), bytes, bytes)
                               : ggml_backend_buft_alloc_buffer(buffer_type(), bytes));
    if (!out.buffer) fail(SDCPP_OUT_OF_MEMORY, "device ", name_, " has no ", bytes >> 20, " MiB free");
    return out;
}

const Device::Speed& Device::speed() {
    if (speed_.flops_per_s > 0 && speed_.link_bytes_per_s > 0) return speed_;
    // One product of 1024 x 1024 matrices in f16, as large layers have them.
    constexpr int64_t side = 1024;
    constexpr size_t copied = size_t{32} << 20;
    const ggml_context_ptr context(ggml_init(
        {.mem_size = 8 * ggml_tensor_overhead() + ggml_graph_overhead(), .mem_buffer = nullptr, .no_alloc = true}));
    if (!context) fail(SDCPP_OUT_OF_MEMORY, "out of memory");
    ggml_tensor* a = ggml_new_tensor_2d(context.get(), GGML_TYPE_F16, side, side);
    ggml_tensor* b = ggml_new_tensor_2d(context.get(), GGML_TYPE_F32, side, side);
    CustomOperations custom;
    Graph g{context.get(), kernels_, custom};
    ggml_tensor* c = cpu::linear(g, b, a, nullptr);
    if (!c) c = ggml_mul_mat(context.get(), a, b);
    ggml_tensor* target = ggml_new_tensor_1d(context.get(), GGML_TYPE_I8, copied);
    const ggml_backend_buffer_ptr buffer(ggml_backend_alloc_ctx_tensors_from_buft(context.get(), buffer_type()));
    if (!buffer) fail(SDCPP_OUT_OF_MEMORY, "device ", name_, " has no 64 MiB free");
    ggml_backend_buffer_clear(buffer.get(), 0);
    ggml_cgraph* graph = ggml_new_graph(context.get());
    ggml_build_forward_expand(graph, c);
    compute(graph);  // the first one starts threads or compiles kernels
    double best = 1e9;
    for (int i = 0; i < 3; ++i) {
        const auto start = Clock::now();
        compute(graph);
        best = std::min(best, seconds_since(start));
    }
    speed_.flops_per_s = 2.0 * side * side * side / best;
    const std::vector<std::byte> source(copied, std::byte{1});
    best = 1e9;
    for (int i = 0; i < 2; ++i) {
        const auto start = Clock::now();
        ggml_backend_tensor_set(target, source.data(), 0, copied);
        best = std::min(best, seconds_since(start));
    }
    speed_.link_bytes_per_s = simulated_link_ > 0 ? simulated_link_ : copied / best;
    speed_.dispatch_seconds = 1e-4;
    return speed_;
}

void Device::compute(ggml_cgraph* graph) {
    if (cancelled()) fail(SDCPP_CANCELLED, "cancelled");
    const ThreadGovernor::Turn turn(governor_);
    if (set_threads_) set_threads_(backend(), turn.threads());
    const auto start = Clock::now();
    const ggml_status status = ggml_backend_graph_compute(backend(), graph);
    if (kernels_.failed && kernels_.failed->exchange(false)) fail(SDCPP_OUT_OF_MEMORY, "out of memory");
    switch (status) {
        case GGML_STATUS_SUCCESS:
            if (cancelled()) fail(SDCPP_CANCELLED, "cancelled");  // operations of ours may have stopped early
            if (slowdown_ > 1) std::this_thread::sleep_for((Clock::now() - start) * (slowdown_ - 1));
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
