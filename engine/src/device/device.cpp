#include "device/device.h"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <limits>
#include <mutex>
#include <new>
#include <system_error>
#include <thread>

#ifndef _WIN32
#include <unistd.h>
#endif

#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"

namespace sdcpp {
namespace {

bool same_name(const std::string& a, const std::string& b) {
    return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                      [](unsigned char x, unsigned char y) { return std::tolower(x) == std::tolower(y); });
}

// The library that was found has the layout of its structures; the headers that this was compiled with must be of the
// same minor version.
void check_ggml_version() {
    const auto minor = [](std::string_view version) { return version.substr(0, version.rfind('.')); };
    const std::string_view headers = SDCPP_GGML_VERSION, library = ggml_version();
    if (!headers.empty() && minor(headers) != minor(library))
        fail(SDCPP_INTERNAL, "the engine was built for ggml ", headers, " but found ggml ", library,
             ": bring the first back (pip install 'libggml-python==", minor(headers),
             ".*'), or install sdcpp_py again for the second (-C cmake.define.ggml_ROOT=its folder)");
}

// `trouble`: null, or the string that gathers errors.
void take_log(ggml_log_level level, const char* text, void* trouble) {
    std::string line(text);
    while (!line.empty() && line.back() == '\n') line.pop_back();
    if (line.empty()) return;
    if (trouble && level == GGML_LOG_LEVEL_ERROR) *static_cast<std::string*>(trouble) += line + '\n';
    log(level == GGML_LOG_LEVEL_ERROR  ? SDCPP_LOG_ERROR
        : level == GGML_LOG_LEVEL_WARN ? SDCPP_LOG_WARNING
                                       : SDCPP_LOG_DEBUG,
        line);
}

// Whether the process was forked after devices had been looked for. GPUs' drivers do not work in it, and ggml would end
// it.
bool forked_since() {
#ifndef _WIN32
    static const pid_t first = getpid();
    return getpid() != first;
#else
    return false;
#endif
}

// ggml built with loadable backends registers none until it is asked to; the packaged build registers its own at start.
// Gives the errors of that, ggml's only reasons for a backend without devices.
const std::string& ensure_backends() {
    static std::once_flag once;
    static std::string trouble;
    std::call_once(once, [] {
        check_ggml_version();
        ggml_log_set(take_log, &trouble);
        if (ggml_backend_dev_count() == 0) ggml_backend_load_all();
        forked_since();  // notes the process that devices belong to
        ggml_log_set(take_log, nullptr);
    });
    return trouble;
}

bool is_cpu(ggml_backend_dev_t device) { return ggml_backend_dev_type(device) == GGML_BACKEND_DEVICE_TYPE_CPU; }

ggml_backend_dev_t usable(ggml_backend_dev_t device) {
    if (!is_cpu(device) && forked_since())
        fail(SDCPP_INVALID_ARGUMENT, "device ", ggml_backend_dev_name(device),
             " cannot be used in a process that was forked after its parent had looked for devices; start it with the "
             "method 'spawn', or let ",
             OptionName{"device"}, " be CPU");
    return device;
}

ggml_backend_dev_t choose(const std::string& name) {
    ensure_backends();
    const size_t count = ggml_backend_dev_count();
    std::string known;
    for (size_t i = 0; i < count; ++i) {
        ggml_backend_dev_t device = ggml_backend_dev_get(i);
        if (same_name(name, ggml_backend_dev_name(device))) return usable(device);
        known += std::string(known.empty() ? "" : ", ") + ggml_backend_dev_name(device);
    }
    if (!same_name(name, "auto"))
        fail(SDCPP_INVALID_ARGUMENT, "no device named '", name, "'; there are: auto, ", known);
    for (const auto type : {GGML_BACKEND_DEVICE_TYPE_GPU, GGML_BACKEND_DEVICE_TYPE_IGPU, GGML_BACKEND_DEVICE_TYPE_CPU})
        if (ggml_backend_dev_t device = ggml_backend_dev_by_type(type)) return usable(device);
    fail(SDCPP_INTERNAL, "ggml offers no device");
}

template <typename Function>
Function device_function(ggml_backend_dev_t device, const char* name) {
    return reinterpret_cast<Function>(ggml_backend_reg_get_proc_address(ggml_backend_dev_backend_reg(device), name));
}

// A GPU's product takes at most these bytes in pools: its inputs, and in f16 its output, in the type that it uses.
uint64_t copies_of_product(const ggml_tensor* t) {
    if (t->op != GGML_OP_MUL_MAT) return 0;
    const auto count = [](const ggml_tensor* tensor) { return static_cast<uint64_t>(ggml_nelements(tensor)); };
    const ggml_tensor *weights = t->src[0], *x = t->src[1];
    const bool in_f32 = weights->type == GGML_TYPE_F32 || t->op_params[0] == GGML_PREC_F32;
    if (in_f32)
        return 4 * ((weights->type == GGML_TYPE_F32 ? 0 : count(weights)) + (x->type == GGML_TYPE_F32 ? 0 : count(x)));
    if (weights->type == GGML_TYPE_BF16) return 2 * count(x);
    return 2 * (count(x) + count(t) + (weights->type == GGML_TYPE_F16 ? 0 : count(weights)));
}

// ggml looks for memory for a pool's notes and for its threads, and ends the process if there is none. So the same
// is looked for here first, and given back for ggml to find.
void require_room_for_pool(int threads) {
    constexpr size_t notes = size_t{64} << 10;
    const std::unique_ptr<std::byte[]> room(new std::byte[notes + static_cast<size_t>(threads) * 1024]);
    std::atomic<bool> end{false};
    std::vector<std::jthread> trial;
    const auto wait = [&end] { end.wait(false); };
    const auto finish = [&] {
        end = true;
        end.notify_all();
    };
    try {
        for (int i = 1; i < threads; ++i) trial.emplace_back(wait);
    } catch (const std::system_error& problem) {
        finish();
        fail(SDCPP_OUT_OF_MEMORY, "no ", threads, " threads can be started: ", problem.what());
    } catch (...) {
        finish();
        throw;
    }
    finish();
}

}  // namespace

static constexpr std::string_view simulated_name = "simulated";

// "NAME" or "NAME:key=value,…".
struct DeviceSpec {
    std::string name;
    double vram_gib = 0, link_gb_per_s = 0, slowdown = 1;

    explicit DeviceSpec(const std::string& text) : name(text) {
        const size_t colon = text.rfind(':');
        if (colon == std::string::npos) return;
        const bool settings_follow = text.find('=', colon) != std::string::npos;  // names may have colons
        if (!settings_follow && !same_name(text.substr(0, colon), std::string(simulated_name))) return;
        name = text.substr(0, colon);
        std::string_view settings = std::string_view(text).substr(colon + 1);
        while (!settings.empty()) {
            const std::string_view setting = settings.substr(0, settings.find(','));
            settings.remove_prefix(std::min(settings.size(), setting.size() + 1));
            take(setting);
        }
    }
    bool simulated() const { return same_name(name, std::string(simulated_name)); }

  private:
    void take(std::string_view setting) {
        const size_t equals = setting.find('=');
        const std::string_view key = setting.substr(0, equals);
        double value = -1;
        if (equals != std::string_view::npos) {
            const char* end = setting.data() + setting.size();
            if (const auto [at, problem] = std::from_chars(setting.data() + equals + 1, end, value);
                problem != std::errc() || at != end)
                value = -1;
        }
        double* target = key == "link"                      ? &link_gb_per_s
                         : simulated() && key == "vram"     ? &vram_gib
                         : simulated() && key == "slowdown" ? &slowdown
                                                            : nullptr;
        if (!target || !(value > 0) || value > 1e6 || (key == "slowdown" && value < 1))
            fail(SDCPP_INVALID_ARGUMENT, "'", setting, "' cannot be part of ",
                 simulated()
                     ? "a simulated device; an example: simulated:vram=6,link=12,slowdown=2 (GiB, GB/s, at least 1)"
                     : "a device's name; an example: " + name + ":link=12 (GB/s)");
        *target = value;
    }
};

static uint64_t capacity_of(const DeviceSpec& spec) {
    return spec.vram_gib > 0 ? static_cast<uint64_t>(spec.vram_gib * (1 << 30)) : DeviceMemory::unlimited;
}

std::vector<DeviceInfo> list_devices() {
    ensure_backends();
    std::vector<DeviceInfo> out;
    for (size_t i = 0; i < ggml_backend_dev_count(); ++i) {
        ggml_backend_dev_t device = ggml_backend_dev_get(i);
        DeviceInfo info;
        info.name = ggml_backend_dev_name(device);
        info.description = ggml_backend_dev_description(device);
        info.is_cpu = is_cpu(device);
        if (info.is_cpu || !forked_since()) ggml_backend_dev_memory(device, &info.free_bytes, &info.total_bytes);
        out.push_back(std::move(info));
    }
    return out;
}

std::vector<BackendInfo> list_backends() {
    ensure_backends();
    std::vector<BackendInfo> out;
    for (size_t i = 0; i < ggml_backend_reg_count(); ++i) {
        ggml_backend_reg_t backend = ggml_backend_reg_get(i);
        out.push_back({ggml_backend_reg_name(backend), ggml_backend_reg_dev_count(backend)});
    }
    return out;
}

const std::string& backend_trouble() { return ensure_backends(); }

Device::Device(const std::string& name, int threads, const std::atomic<bool>* cancelled, const GemmChoice& gemm)
    : Device(DeviceSpec(name), threads, cancelled, gemm) {}

Device::Device(const DeviceSpec& spec, int threads, const std::atomic<bool>* cancelled, const GemmChoice& gemm)
    : handle_(choose(spec.simulated() ? "CPU" : spec.name)),
      cancelled_(cancelled),
      memory_(capacity_of(spec)),
      governor_(usable_threads(threads)) {
    name_ = ggml_backend_dev_name(handle_);
    ggml_backend_dev_props props{};
    ggml_backend_dev_get_props(handle_, &props);
    is_cpu_ = sdcpp::is_cpu(handle_);
    if (spec.simulated()) {
        simulated_ = true;
        is_cpu_ = false;
        name_ = simulated_name;
        slowdown_ = spec.slowdown;
    }
    if (is_cpu_ && spec.link_gb_per_s > 0)
        fail(SDCPP_INVALID_ARGUMENT,
             "the processor has no link to be slowed down; use simulated:link=", spec.link_gb_per_s);
    paced_link_ = spec.link_gb_per_s * 1e9;
    maps_host_memory_ = is_cpu_ && props.caps.buffer_from_host_ptr;
    set_threads_ = device_function<ggml_backend_set_n_threads_t>(handle_, "ggml_backend_set_n_threads");
    if (!gemm.library.empty() && sdcpp::is_cpu(handle_)) {
        kernels_.gemm = std::make_shared<Gemm>(gemm);
        if (gemm.bf16 && kernels_.gemm->large().pair() == 1)
            log(SDCPP_LOG_WARNING, "this processor does not compute with bf16: matrices are multiplied in f32");
        kernels_.cancelled = cancelled_;
        if (is_cpu_) kernels_.threads = governor_.threads();
        kernels_.failed = std::make_shared<std::atomic<bool>>(false);
    }
    start_threads(governor_.threads());
    start_backend();
    kernels_.supports = [device = handle_](const ggml_tensor* op) { return ggml_backend_dev_supports_op(device, op); };
    if (queues_uploads()) {
        kernels_.max_attention_flops = std::numeric_limits<double>::infinity();  // kernels end within moments
        kernels_.f16_attention = true;
        kernels_.f32_gelu = true;
        kernels_.fast_head_sizes = {64, 80, 96, 112, 128, 256};
        kernels_.pool_bytes = copies_of_product;
        const uint64_t before = unclaimed_bytes();
        choose_convolutions();  // and start the backend's libraries
        count_backend_bytes(before);
    }
}

void Device::count_backend_bytes(uint64_t before) {
    const uint64_t now = unclaimed_bytes();
    if (queues_uploads()) backend_bytes_ += before - std::min(before, now);
}

void Device::require_room(uint64_t pools) const {
    if (!queues_uploads()) return;
    const uint64_t most = pools + calibration::backend_bytes;
    const uint64_t needed = std::max(most - std::min(most, backend_bytes_), calibration::least_backend_bytes);
    if (const uint64_t free = free_bytes(); free < needed)
        fail(SDCPP_OUT_OF_MEMORY, "device ", name_, " has ", free >> 20, " MiB free, and its libraries may take ",
             needed >> 20, " MiB beside the model; lower ", OptionName{"max_vram"}, ", or end other programs on it");
}

void Device::restart_backend() {
    if (!queues_uploads()) return;
    const uint64_t before = free_bytes();
    backend_.reset();
    start_backend();
    const uint64_t now = free_bytes();
    backend_bytes_ -= std::min(backend_bytes_, now - std::min(now, before));
}

void Device::start_threads(int count) {
    using New = ggml_threadpool* (*)(ggml_threadpool_params*);
    using Free = void (*)(ggml_threadpool*);
    const auto create = device_function<New>(handle_, "ggml_threadpool_new");
    const auto destroy = device_function<Free>(handle_, "ggml_threadpool_free");
    if (!create || !destroy) return;
    require_room_for_pool(count);
    ggml_threadpool_params params;
    ggml_threadpool_params_init(&params, count);
    params.poll = 0;  // between graphs they sleep
    threads_ = {create(&params), destroy};
}

void Device::start_backend() {
    using Use = void (*)(ggml_backend_t, ggml_threadpool*);
    backend_.reset(ggml_backend_dev_init(handle_, nullptr));
    if (!backend_) fail(SDCPP_INTERNAL, "device ", name_, " cannot be started; is it in use, or its driver missing?");
    if (const auto set_abort =
            device_function<ggml_backend_set_abort_callback_t>(handle_, "ggml_backend_set_abort_callback"))
        set_abort(backend_.get(), stop_requested, this);
    if (const auto use = device_function<Use>(handle_, "ggml_backend_cpu_set_threadpool"); use && threads_)
        use(backend_.get(), threads_.get());
}

ggml_backend_t Device::backend() {
    if (!backend_) start_backend();
    return backend_.get();
}

// Asked by ggml before each operation on the CPU.
bool Device::stop_requested(void* device) {
    constexpr auto interval = std::chrono::microseconds(200);
    auto& self = *static_cast<Device*>(device);
    if (self.cancelled()) return true;
    if (!self.must_stop_ || !*self.must_stop_) return false;
    const auto now = Clock::now();
    if (now - self.asked_ < interval) return false;
    self.asked_ = now;
    return (*self.must_stop_)();
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

void Device::compute(ggml_cgraph* graph, const std::function<bool()>& must_stop) {
    if (cancelled()) fail(SDCPP_CANCELLED, "cancelled");
    const ThreadGovernor::Turn turn(governor_);
    if (set_threads_) set_threads_(backend(), turn.threads());
    const auto start = Clock::now();
    must_stop_ = &must_stop;
    ggml_status status = GGML_STATUS_ALLOC_FAILED;
    try {
        status = ggml_backend_graph_compute(backend(), graph);
    } catch (const std::bad_alloc&) {
        // ggml's CPU backend has freed its working memory and still points there: nobody may use or free it now
        (void)backend_.release();
    }
    must_stop_ = nullptr;
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
