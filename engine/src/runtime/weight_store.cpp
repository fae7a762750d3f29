#include "runtime/weight_store.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <map>

#include "base/error.h"
#include "base/log.h"
#include "device/host_memory.h"

namespace sdcpp {
namespace {

void* const nowhere = reinterpret_cast<void*>(uintptr_t{64});  // makes ggml's allocator take a weight as allocated
constexpr uint64_t max_buffer = uint64_t{1} << 30;
constexpr uint64_t spare_share = 8;             // So much more is pinned: the ends of blocks stay empty.
constexpr uint64_t plenty = uint64_t{4} << 30;  // host memory that is left alone when converted weights are kept

uint64_t aligned(uint64_t bytes, uint64_t alignment) { return (bytes + alignment - 1) / alignment * alignment; }

bool can_be_mapped(const Weight& weight, ggml_type type) {
    if (weight.source->type != from_ggml(type)) return false;
    const size_t alignment = type == GGML_TYPE_F32 ? 4 : 2;
    return reinterpret_cast<uintptr_t>(weight.source->bytes.data()) % alignment == 0;
}

}  // namespace

WeightStore::WeightStore(Device& device, Network& network, const TypeRules& types)
    : device_(device), network_(network) {
    auto& weights = network.weights().all();
    context_.reset(ggml_init(
        {.mem_size = (weights.size() + 1) * ggml_tensor_overhead(), .mem_buffer = nullptr, .no_alloc = true}));
    if (!context_) fail(SDCPP_OUT_OF_MEMORY, "out of memory");
    const ggml_backend_buffer_type_t type = device.buffer_type();
    const uint64_t alignment = ggml_backend_buft_get_alignment(type);
    for (Weight& weight : weights) {
        std::array<int64_t, GGML_MAX_DIMS> ne = {1, 1, 1, 1};
        std::copy(weight.shape.rbegin(), weight.shape.rend(), ne.begin());
        const ggml_type stored = stored_type(weight, types);
        weight.tensor = ggml_new_tensor(context_.get(), stored, static_cast<int>(weight.shape.size()), ne.data());
        weight.tensor->data = nowhere;
        ggml_set_name(weight.tensor, weight.name.c_str());
        Item item;
        item.bytes = aligned(ggml_backend_buft_get_alloc_size(type, weight.tensor), alignment);
        item.mappable = device.maps_host_memory() && can_be_mapped(weight, stored);
        items_.push_back(std::move(item));
    }
    for (const Stage& stage : network.stages()) {
        uint64_t sum = 0;
        for (size_t i = stage.first_weight; i < stage.last_weight; ++i) sum += items_[i].bytes;
        stage_bytes_.push_back(sum);
    }
}

WeightStore::~WeightStore() {
    for (Weight& weight : network_.weights().all()) weight.tensor = nullptr;
}

uint64_t WeightStore::stage_bytes(size_t stage) const { return stage_bytes_.at(stage); }

std::vector<uint64_t> WeightStore::weight_bytes(size_t stage) const {
    std::vector<uint64_t> out;
    const Stage& s = network_.stages()[stage];
    for (size_t i = s.first_weight; i < s.last_weight; ++i) out.push_back(items_[i].bytes);
    return out;
}

uint64_t WeightStore::copied_bytes(size_t stage) const {
    uint64_t sum = 0;
    const Stage& s = network_.stages()[stage];
    for (size_t i = s.first_weight; i < s.last_weight; ++i) sum += items_[i].mappable ? 0 : items_[i].bytes;
    return sum;
}

const MappedFile& WeightStore::file_of(const Weight& weight) const {
    return network_.weights().files().file_of(weight.source->bytes);
}

void WeightStore::detach() {
    for (Weight& weight : network_.weights().all()) {
        weight.tensor->buffer = nullptr;
        weight.tensor->data = nowhere;
    }
    for (Item& item : items_) item.mapped = item.streamed = false;
}

void WeightStore::release() {
    detach();
    loaded_.clear();
    buffers_.clear();
    mappings_.clear();
    mapped_bytes_ = 0;
}

void WeightStore::place(const std::vector<Place>& places, uint64_t shared_bytes, bool map) {
    release();
    try {
        const auto attach = [&](Weight& weight, ggml_backend_buffer_t buffer, void* address) {
            weight.tensor->data = nullptr;
            if (ggml_backend_tensor_alloc(buffer, weight.tensor, address) != GGML_STATUS_SUCCESS)
                fail(SDCPP_OUT_OF_MEMORY, "device ", device_.name(), " cannot hold tensor ", weight.name);
        };
        auto& weights = network_.weights().all();
        std::map<const MappedFile*, ggml_backend_buffer_t> files;
        ggml_backend_buffer_t shared = nullptr;
        std::byte* shared_data = nullptr;
        if (shared_bytes > 0) {
            const DeviceBuffer& buffer = buffers_.emplace_back(device_.allocate(MemoryClass::slots, shared_bytes));
            ggml_backend_buffer_set_usage(shared = buffer.buffer.get(), GGML_BACKEND_BUFFER_USAGE_WEIGHTS);
            shared_data = buffer.data();
        }
        std::vector<size_t> residents;
        for (size_t s = 0; s < places.size(); ++s) {
            if (!places[s].used) continue;
            const Stage& stage = network_.stages()[s];
            for (size_t i = stage.first_weight; i < stage.last_weight; ++i) {
                items_[i].mapped = map && items_[i].mappable;
                if (!items_[i].mapped) {
                    const auto offset =
                        places[s].offsets.empty() ? std::nullopt : places[s].offsets[i - stage.first_weight];
                    items_[i].streamed = offset.has_value();
                    if (offset)
                        attach(weights[i], shared, shared_data + *offset);
                    else
                        residents.push_back(i);
                    continue;
                }
                const MappedFile& file = file_of(weights[i]);
                ggml_backend_buffer_t& buffer = files[&file];
                if (!buffer) {
                    void* start = const_cast<std::byte*>(file.bytes().data());  // ggml never writes to weights
                    const size_t size = file.bytes().size();
                    buffer = ggml_backend_dev_buffer_from_host_ptr(device_.handle(), start, size, size);
                    if (!buffer)
                        fail(SDCPP_OUT_OF_MEMORY, "device ", device_.name(), " cannot map ", file.path().string());
                    mappings_.emplace_back(buffer);
                }
                attach(weights[i], buffer, const_cast<std::byte*>(weights[i].source->bytes.data()));
                mapped_bytes_ += weights[i].source->bytes.size();
            }
        }
        // Residents lie in few buffers: drivers round each one up.
        const uint64_t largest = std::min<uint64_t>(ggml_backend_buft_get_max_size(device_.buffer_type()), max_buffer);
        for (size_t first = 0; first < residents.size();) {
            size_t last = first;
            uint64_t bytes = 0;
            while (last < residents.size() && (last == first || bytes + items_[residents[last]].bytes <= largest))
                bytes += items_[residents[last++]].bytes;
            const DeviceBuffer& own = buffers_.emplace_back(device_.allocate(MemoryClass::weights, bytes));
            ggml_backend_buffer_set_usage(own.buffer.get(), GGML_BACKEND_BUFFER_USAGE_WEIGHTS);
            std::byte* address = own.data();
            for (; first < last; ++first) {
                attach(weights[residents[first]], own.buffer.get(), address);
                address += items_[residents[first]].bytes;
            }
        }
    } catch (...) {
        release();
        throw;
    }
    loaded_.assign(places.size(), 0);
}

uint64_t WeightStore::load(size_t stage, const std::vector<size_t>& weights, const std::atomic<bool>& stop) {
    const Stage& s = network_.stages()[stage];
    uint64_t bytes = 0;
    const auto bring = [&](size_t i) {
        if (stop) fail(SDCPP_CANCELLED, "cancelled");
        upload(network_.weights().all()[i], items_[i], items_[i].streamed, stop);
        bytes += items_[i].bytes;
    };
    if (weights.empty()) {
        if (loaded_[stage]) return 0;
        for (size_t i = s.first_weight; i < s.last_weight; ++i)
            if (!items_[i].mapped && !items_[i].streamed) bring(i);
        loaded_[stage] = 1;
    }
    for (const size_t weight : weights) bring(s.first_weight + weight);
    return bytes;
}

UploadQueue* WeightStore::queue() {
    if (!queue_ && device_.queues_uploads()) queue_ = std::make_unique<UploadQueue>(device_);
    return queue_.get();
}

// Uploads that repeat go from a copy in host memory if one has to be made anyway, as by conversion, or if copying from
// the file holds them up; and if memory is plenty.
std::byte* WeightStore::keep(Item& item, size_t size, bool unchanged) {
    if (queue() && pinning_ == Pinning::undecided && (!unchanged || queue()->waits_for_copies())) {
        uint64_t all = 0;
        for (const Item& one : items_) all += one.streamed && !one.kept ? one.bytes : 0;
        pinning_ = host_available_bytes() > plenty + all ? Pinning::yes : Pinning::no;
        if (pinning_ == Pinning::yes) {
            log(SDCPP_LOG_INFO, network_.name() + ": streamed weights are kept in pinned memory, " +
                                    std::to_string(all >> 20) + " MiB");
            queue()->pin_ahead(all + all / spare_share);
        }
    }
    if (pinning_ == Pinning::yes) {
        item.kept = queue()->take_pinned(size);
        item.pinned = item.kept != nullptr;
        if (item.pinned || unchanged) return item.kept;
    }
    if (unchanged || host_available_bytes() <= plenty + size) return nullptr;
    item.converted.resize(size);
    return item.kept = item.converted.data();
}

// A converted copy that was made before there was pinned memory for it.
void WeightStore::move_to_pinned(Item& item, size_t size) {
    std::byte* target = pinning_ == Pinning::yes ? queue()->take_pinned(size) : nullptr;
    if (!target) return;
    queue()->copy(target, item.converted);
    item.kept = target;
    item.pinned = true;
    item.converted = {};
}

// `again`: the weight will be uploaded more than once.
void WeightStore::upload(const Weight& weight, Item& item, bool again, const std::atomic<bool>& stop) {
    const size_t size = ggml_nbytes(weight.tensor);
    const bool as_it_is = weight.source->type == from_ggml(weight.tensor->type) && weight.source->bytes.size() == size;
    const MappedFile& file = file_of(weight);
    // On the CPU the budget holds for the process, to which pages of the file count while they are mapped.
    const auto forget = [&](std::span<const std::byte> part) {
        if (device_.is_cpu()) file.forget(part);
    };
    const bool reachable = ggml_backend_buffer_is_host(weight.tensor->buffer);
    if (reachable && (as_it_is || (!item.kept && (device_.is_cpu() || !again)))) {
        convert_weight(weight, weight.tensor->type, static_cast<std::byte*>(weight.tensor->data), 1, forget);
        return;
    }
    if (item.kept && !item.pinned) move_to_pinned(item, size);
    std::span<const std::byte> source(item.kept, item.kept ? size : 0);
    if (!item.kept) {
        std::byte* target = again ? keep(item, size, as_it_is) : nullptr;
        if (!target && !as_it_is) {
            staging_.resize(size);
            target = staging_.data();
        }
        const int threads = device_.queues_uploads() ? physical_cores() : 1;  // on the CPU they belong to the compute
        if (target && item.pinned && as_it_is)
            queue_->copy(target, weight.source->bytes);
        else if (target)
            convert_weight(weight, weight.tensor->type, target, threads, forget);
        source = target ? std::span<const std::byte>(target, size) : weight.source->bytes;
    }
    if (!queue())
        ggml_backend_tensor_set(weight.tensor, source.data(), 0, size);
    else if (item.pinned)
        queue_->put_pinned(weight.tensor, source.data());
    else
        queue_->put(weight.tensor, source, stop);
    if (again) clear_padding(weight, stop);
}

// Kernels may read beyond the rows of a quantized weight, up to a whole tile: not what another weight has left there.
void WeightStore::clear_padding(const Weight& weight, const std::atomic<bool>& stop) {
    static constexpr std::array<std::byte, 4096> zeros{};
    const size_t size = ggml_nbytes(weight.tensor),
                 used = ggml_backend_buft_get_alloc_size(device_.buffer_type(), weight.tensor);
    ggml_tensor padding{};
    padding.type = GGML_TYPE_I8;
    padding.buffer = weight.tensor->buffer;
    for (size_t at = size; at < used; at += zeros.size()) {
        const size_t bytes = std::min(zeros.size(), used - at);
        padding.ne[0] = static_cast<int64_t>(bytes);
        std::fill(std::begin(padding.ne) + 1, std::end(padding.ne), 1);
        padding.nb[0] = 1;
        std::fill(std::begin(padding.nb) + 1, std::end(padding.nb), bytes);
        padding.data = static_cast<std::byte*>(weight.tensor->data) + at;
        if (queue())
            queue_->put(&padding, {zeros.data(), bytes}, stop);
        else
            ggml_backend_tensor_set(&padding, zeros.data(), 0, bytes);
    }
}

uint64_t WeightStore::held_bytes() const {
    uint64_t sum = 0;
    for (const DeviceBuffer& buffer : buffers_) sum += buffer.lease.bytes();
    return sum;
}

}  // namespace sdcpp
