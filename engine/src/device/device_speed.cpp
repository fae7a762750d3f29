// Measurements of a device: the speeds of products and of its link, the faster convolution.
#include <algorithm>
#include <functional>
#include <map>
#include <mutex>
#include <tuple>

#include "base/calibration.h"
#include "base/clock.h"
#include "base/error.h"
#include "device/device.h"
#include "nn/context.h"
#include "nn/cpu_operations.h"
#include "nn/layers.h"

namespace sdcpp {
namespace {

constexpr size_t copied_bytes = size_t{64} << 20;
constexpr double enough_seconds = 1e-3;  // a product that takes less is mostly its start

// A graph of one operation, made by `build`, in memory of its own.
class Trial {
  public:
    Trial(Device& device, const std::function<ggml_tensor*(Graph&)>& build)
        : context_(64 * ggml_tensor_overhead() + ggml_graph_overhead()) {
        Graph g{context_.get(), device.kernels(), custom_};
        result_ = build(g);
        buffer_.reset(ggml_backend_alloc_ctx_tensors_from_buft(context_.get(), device.buffer_type()));
        if (!buffer_)
            fail(SDCPP_OUT_OF_MEMORY, "device ", device.name(), " has no memory free for measuring its speed");
        ggml_backend_buffer_clear(buffer_.get(), 0x11);  // small numbers in every format; zeros would run faster
        graph_ = ggml_new_graph(context_.get());
        ggml_build_forward_expand(graph_, result_);
    }

    bool supported(const Device& device) const { return ggml_backend_dev_supports_op(device.handle(), result_); }

    // The shortest of `runs`, after one that starts threads or compiles kernels.
    double seconds(Device& device, int runs) {
        device.compute(graph_);
        double best = 1e9;
        for (int i = 0; i < runs; ++i) {
            const auto start = Clock::now();
            device.compute(graph_);
            best = std::min(best, seconds_since(start));
        }
        return best;
    }

  private:
    Context context_;
    CustomOperations custom_;
    ggml_backend_buffer_ptr buffer_;
    ggml_tensor* result_ = nullptr;
    ggml_cgraph* graph_ = nullptr;
};

// A product of matrices of so many rows and columns, as large layers have them.
double product_seconds(Device& device, ggml_type type, int64_t side) {
    Trial trial(device, [&](Graph& g) {
        ggml_tensor* a = ggml_new_tensor_2d(g.context, type, side, side);
        ggml_tensor* b = ggml_new_tensor_2d(g.context, GGML_TYPE_F32, side, side);
        ggml_tensor* c = cpu::linear(g, b, a, nullptr);
        return c ? c : ggml_mul_mat(g.context, a, b);
    });
    return trial.seconds(device, 8);  // other programs may take the processor now and then
}

// An upload, from pinned memory if the device has it.
double upload_seconds(Device& device) {
    const Context context(4 * ggml_tensor_overhead());
    ggml_tensor* target = ggml_new_tensor_1d(context.get(), GGML_TYPE_I8, copied_bytes);
    const ggml_backend_buffer_ptr buffer(ggml_backend_alloc_ctx_tensors_from_buft(context.get(), device.buffer_type()));
    ggml_backend_buffer_type_t pinned = ggml_backend_dev_host_buffer_type(device.handle());
    const ggml_backend_buffer_ptr source(
        ggml_backend_buft_alloc_buffer(pinned ? pinned : ggml_backend_cpu_buffer_type(), copied_bytes));
    if (!buffer || !source)
        fail(SDCPP_OUT_OF_MEMORY, "device ", device.name(), " has no ", copied_bytes >> 20, " MiB free");
    ggml_backend_buffer_clear(source.get(), 1);  // pages that are there
    double best = 1e9;
    for (int i = 0; i < 3; ++i) {
        const auto start = Clock::now();
        ggml_backend_tensor_set_async(device.backend(), target, ggml_backend_buffer_get_base(source.get()), 0,
                                      copied_bytes);
        ggml_backend_synchronize(device.backend());
        best = std::min(best, seconds_since(start));
    }
    return best;
}

}  // namespace

const Device::Speed& Device::speed() {
    if (speed_.flops_per_s > 0 && speed_.link_bytes_per_s > 0) return speed_;
    int64_t side = 1024;
    double seconds = product_seconds(*this, GGML_TYPE_F16, side);
    if (seconds < enough_seconds) {
        side = 4096;
        seconds = product_seconds(*this, GGML_TYPE_BF16, side);
    }
    speed_.flops_per_s = 2.0 * static_cast<double>(side * side * side) / seconds;
    speed_.link_bytes_per_s = copied_bytes / upload_seconds(*this);
    if (paced_link_ > 0)
        speed_.link_bytes_per_s = simulated_ ? paced_link_ : std::min(speed_.link_bytes_per_s, paced_link_);
    speed_.dispatch_seconds = queues_uploads()
                                  ? std::min(calibration::dispatch_seconds, product_seconds(*this, GGML_TYPE_F16, 64))
                                  : calibration::dispatch_seconds;
    return speed_;
}

// Whether ggml's own convolution or products with unrolled patches are the faster way: on a small layer of a network,
// and on a larger one if the small one is mostly its start.
bool Device::convolves_directly(ggml_type type) {
    constexpr int64_t kernel = 3;
    const auto seconds = [&](int64_t side, int64_t channels, bool direct) {
        Trial trial(*this, [&](Graph& g) {
            ggml_tensor* w = ggml_new_tensor_4d(g.context, type, kernel, kernel, channels, channels);
            ggml_tensor* x = ggml_new_tensor_4d(g.context, GGML_TYPE_F32, side, side, channels, 1);
            return direct ? ggml_conv_2d_direct(g.context, w, x, 1, 1, 1, 1, 1, 1)
                          : unrolled_convolution(g, w, x, 1, 1);
        });
        return trial.supported(*this) ? trial.seconds(*this, 2) : 1e9;
    };
    const double direct = seconds(32, 128, true), unrolled = seconds(32, 128, false);
    if (std::max(direct, unrolled) > enough_seconds) return direct < unrolled;
    return seconds(64, 320, true) < seconds(64, 320, false);
}

// Once for all models of a process: the ways differ in the last bits, and pictures must not depend on what else the
// device was busy with while they were measured.
void Device::choose_convolutions() {
    static std::mutex mutex;
    static std::map<std::string, std::pair<bool, bool>> chosen;
    const std::scoped_lock lock(mutex);
    if (!chosen.contains(name_))
        chosen[name_] = {convolves_directly(GGML_TYPE_F16), convolves_directly(GGML_TYPE_F32)};
    else
        product_seconds(*this, GGML_TYPE_BF16, 512);  // starts the backend's libraries, as the measurement does
    std::tie(kernels_.direct_convolution_f16, kernels_.direct_convolution_f32) = chosen[name_];
}

}  // namespace sdcpp
