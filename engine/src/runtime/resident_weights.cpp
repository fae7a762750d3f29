#include "runtime/resident_weights.h"

#include <algorithm>
#include <array>
#include <map>

#include "base/error.h"

namespace sdcpp {
namespace {

ggml_context* new_context(size_t tensors) {
    ggml_context* context =
        ggml_init({.mem_size = (tensors + 1) * ggml_tensor_overhead(), .mem_buffer = nullptr, .no_alloc = true});
    if (!context) fail(SDCPP_OUT_OF_MEMORY, "out of memory");
    return context;
}

ggml_tensor* new_tensor(ggml_context* context, const Weight& weight, ggml_type type) {
    std::array<int64_t, GGML_MAX_DIMS> ne = {1, 1, 1, 1};
    std::copy(weight.shape.rbegin(), weight.shape.rend(), ne.begin());
    ggml_tensor* tensor = ggml_new_tensor(context, type, static_cast<int>(weight.shape.size()), ne.data());
    ggml_set_name(tensor, weight.name.c_str());
    return tensor;
}

bool can_be_mapped(const Weight& weight, ggml_type type) {
    if (weight.source->type != from_ggml(type)) return false;
    const size_t alignment = type == GGML_TYPE_F32 ? 4 : 2;
    return reinterpret_cast<uintptr_t>(weight.source->bytes.data()) % alignment == 0;
}

const MappedFile& file_of(const ModelFiles& files, const Weight& weight) {
    const std::byte* first = weight.source->bytes.data();
    for (const auto& file : files.files())
        if (first >= file->bytes().data() && first < file->bytes().data() + file->bytes().size()) return *file;
    fail(SDCPP_INTERNAL, "tensor ", weight.name, " lies in no open file");
}

}  // namespace

ResidentWeights::ResidentWeights(const Device& device, Network& network, ggml_type wanted) : network_(network) {
    auto& weights = network.weights().all();
    mapped_context_.reset(new_context(weights.size()));
    copied_context_.reset(new_context(weights.size()));
    std::map<const MappedFile*, ggml_backend_buffer_t> mappings;
    std::vector<Weight*> copied;
    for (Weight& weight : weights) {
        const ggml_type type = stored_type(weight, wanted);
        if (!device.maps_host_memory() || !can_be_mapped(weight, type)) {
            weight.tensor = new_tensor(copied_context_.get(), weight, type);
            copied.push_back(&weight);
            continue;
        }
        weight.tensor = new_tensor(mapped_context_.get(), weight, type);
        const MappedFile& file = file_of(network.weights().files(), weight);
        auto& buffer = mappings[&file];
        if (!buffer) {
            void* start = const_cast<std::byte*>(file.bytes().data());  // ggml never writes to weights
            buffer =
                ggml_backend_dev_buffer_from_host_ptr(device.handle(), start, file.bytes().size(), file.bytes().size());
            if (!buffer) fail(SDCPP_OUT_OF_MEMORY, "device ", device.name(), " cannot map ", file.path().string());
            buffers_.emplace_back(buffer);
        }
        if (ggml_backend_tensor_alloc(buffer, weight.tensor, const_cast<std::byte*>(weight.source->bytes.data())) !=
            GGML_STATUS_SUCCESS)
            fail(SDCPP_OUT_OF_MEMORY, "device ", device.name(), " cannot map tensor ", weight.name);
        mapped_bytes_ += weight.source->bytes.size();
    }
    if (copied.empty()) return;
    ggml_backend_buffer_t buffer =
        ggml_backend_alloc_ctx_tensors_from_buft(copied_context_.get(), device.buffer_type());
    if (!buffer)
        fail(SDCPP_OUT_OF_MEMORY, "the weights of ", network.name(), " need ",
             ggml_backend_alloc_ctx_tensors_from_buft_size(copied_context_.get(), device.buffer_type()) >> 20,
             " MiB on device ", device.name(), ", which are not free; use a smaller wtype or another device");
    buffers_.emplace_back(buffer);
    ggml_backend_buffer_set_usage(buffer, GGML_BACKEND_BUFFER_USAGE_WEIGHTS);
    std::vector<std::byte> staging;
    for (const Weight* weight : copied) {
        const size_t size = ggml_nbytes(weight->tensor);
        copied_bytes_ += size;
        if (ggml_backend_buffer_is_host(buffer)) {
            convert_weight(*weight, weight->tensor->type, static_cast<std::byte*>(weight->tensor->data));
            continue;
        }
        staging.resize(size);
        convert_weight(*weight, weight->tensor->type, staging.data());
        ggml_backend_tensor_set(weight->tensor, staging.data(), 0, size);
    }
}

ResidentWeights::~ResidentWeights() {
    for (Weight& weight : network_.weights().all()) weight.tensor = nullptr;
}

}  // namespace sdcpp
