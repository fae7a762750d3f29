#include "runtime/weight_store.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <exception>
#include <set>

#include "base/calibration.h"
#include "base/error.h"
#include "base/log.h"
#include "device/host_memory.h"

namespace sdcpp {
namespace {

void* const nowhere = reinterpret_cast<void*>(uintptr_t{64});  // makes a layout take a weight as placed

constexpr uint64_t unknown = ~uint64_t{0};  // a generation that no source has

uint64_t aligned(uint64_t bytes, uint64_t alignment) { return (bytes + alignment - 1) / alignment * alignment; }

}  // namespace

WeightStore::WeightStore(Device& device, Network& network, const TypeRules& types)
    : device_(device), network_(network), types_(types) {
    extend(0);
}

void WeightStore::extend(size_t first) {
    auto& weights = network_.weights().all();
    Part& part = parts_.emplace_back(Part{first, Context((weights.size() - first + 1) * ggml_tensor_overhead())});
    const ggml_backend_buffer_type_t type = device_.buffer_type();
    const uint64_t alignment = ggml_backend_buft_get_alignment(type);
    for (size_t i = first; i < weights.size(); ++i) {
        Weight& weight = weights[i];
        std::array<int64_t, GGML_MAX_DIMS> ne = {1, 1, 1, 1};
        std::copy(weight.shape.rbegin(), weight.shape.rend(), ne.begin());
        const ggml_type stored = stored_type(weight, types_);
        weight.tensor = ggml_new_tensor(part.context.get(), stored, static_cast<int>(weight.shape.size()), ne.data());
        weight.tensor->data = nowhere;
        ggml_set_name(weight.tensor, weight.name.c_str());
        Item item;
        item.bytes = aligned(device_.weight_bytes(weight.tensor), alignment);
        items_.push_back(std::move(item));
    }
    for (size_t s = stage_bytes_.size(); s < network_.stages().size(); ++s) {
        const Stage& stage = network_.stages()[s];
        uint64_t sum = 0;
        for (size_t i = stage.first_weight; i < stage.last_weight; ++i) sum += items_[i].bytes;
        stage_bytes_.push_back(sum);
    }
}

void WeightStore::cut(size_t stages, size_t weights) {
    finish();
    bool pinned = false, shared = false;
    for (size_t i = weights; i < items_.size(); ++i) {
        pinned = pinned || items_[i].pinned;
        shared = shared || items_[i].streamed;
        detach(i);
    }
    if (shared) drop_shared();
    // memory of weights that go holds no others, see together()
    std::erase_if(chunks_, [&](const Chunk& chunk) { return chunk.items.front() >= weights; });
    if (pinned) {  // the queue gives its memory back as a whole
        for (Item& item : items_) {
            if (!item.pinned) continue;
            item.copy = nullptr;
            item.pinned = false;
        }
        queue_.reset();
        pinning_ = Pinning::undecided;
    }
    std::set<const MappedFile*> used;
    for (size_t i = 0; i < std::min(weights, items_.size()); ++i)
        if (items_[i].mapped) used.insert(network_.weights().all()[i].source->file());
    std::erase_if(mappings_, [&](const auto& mapping) { return !used.contains(mapping.first); });
    items_.resize(std::min(weights, items_.size()));
    stage_bytes_.resize(std::min(stages, stage_bytes_.size()));
    std::erase_if(parts_, [&](const Part& part) { return part.first >= weights && part.first > 0; });
}

// Whether two weights were declared together, so that one buffer may hold both.
bool WeightStore::together(size_t one, size_t other) const {
    return std::none_of(parts_.begin(), parts_.end(),
                        [&](const Part& part) { return (one < part.first) != (other < part.first); });
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
    for (size_t i = s.first_weight; i < s.last_weight; ++i) sum += mappable(i) ? 0 : items_[i].bytes;
    return sum;
}

// Whether the device can compute with it in the mapped file.
bool WeightStore::mappable(size_t item) const {
    const Weight& weight = network_.weights().all()[item];
    if (!device_.maps_host_memory() || !weight.source->file()) return false;
    const std::span<const std::byte> bytes = weight.source->bytes_as(weight.tensor->type);
    const size_t alignment = weight.tensor->type == GGML_TYPE_F32 ? 4 : 2;
    return !bytes.empty() && reinterpret_cast<uintptr_t>(bytes.data()) % alignment == 0;
}

bool WeightStore::stale() const {
    const auto& weights = network_.weights().all();
    for (size_t i = 0; i < items_.size(); ++i)
        if ((items_[i].loaded || items_[i].mapped) && items_[i].generation != weights[i].source->generation())
            return true;
    return false;
}

void WeightStore::detach(size_t item) {
    ggml_tensor* tensor = network_.weights().all()[item].tensor;
    if (items_[item].mapped) mapped_bytes_ -= ggml_nbytes(tensor);
    tensor->buffer = nullptr;
    tensor->data = nowhere;
    items_[item].mapped = items_[item].streamed = items_[item].resident = items_[item].loaded = false;
}

void WeightStore::attach(size_t item, ggml_backend_buffer_t buffer, std::byte* address) {
    const Weight& weight = network_.weights().all()[item];
    weight.tensor->buffer = nullptr;
    weight.tensor->data = nullptr;
    if (ggml_backend_tensor_alloc(buffer, weight.tensor, address) != GGML_STATUS_SUCCESS)
        fail(SDCPP_OUT_OF_MEMORY, "device ", device_.name(), " cannot hold tensor ", weight.name);
}

void WeightStore::map_file(size_t item) {
    const Weight& weight = network_.weights().all()[item];
    const MappedFile& file = *weight.source->file();
    const std::span<const std::byte> bytes = weight.source->bytes_as(weight.tensor->type);
    ggml_backend_buffer_ptr& buffer = mappings_[&file];
    if (!buffer) {
        void* start = const_cast<std::byte*>(file.bytes().data());  // ggml never writes to weights
        const size_t size = file.bytes().size();
        buffer.reset(ggml_backend_dev_buffer_from_host_ptr(device_.handle(), start, size, size));
        if (!buffer) fail(SDCPP_OUT_OF_MEMORY, "device ", device_.name(), " cannot map ", file.path().string());
    }
    detach(item);
    attach(item, buffer.get(), const_cast<std::byte*>(bytes.data()));
    items_[item].mapped = true;
    items_[item].generation = weight.source->generation();
    mapped_bytes_ += bytes.size();
}

void WeightStore::release() {
    for (size_t i = 0; i < items_.size(); ++i) detach(i);
    placed_ = false;
    chunks_.clear();
    shared_.reset();
    mappings_.clear();
}

uint64_t WeightStore::drop_shared() {
    const uint64_t bytes = shared_->lease.bytes();
    for (size_t i = 0; i < items_.size(); ++i)
        if (items_[i].streamed) detach(i);
    shared_.reset();
    return bytes;
}

void WeightStore::give_back(uint64_t bytes) {
    uint64_t given = 0;
    // Filling the memory of streamed weights again costs no more than loading residents of the same size.
    if (shared_ && shared_->lease.bytes() <= bytes) given += drop_shared();
    while (given < bytes && !chunks_.empty()) {
        given += chunks_.back().buffer.lease.bytes();
        for (const size_t i : chunks_.back().items) detach(i);
        chunks_.pop_back();
    }
    if (given < bytes && shared_) drop_shared();
    if (chunks_.empty() && !shared_ && mappings_.empty()) placed_ = false;
}

void WeightStore::place(const std::vector<Place>& places, uint64_t shared_bytes, bool map) {
    try {
        std::vector<std::optional<uint64_t>> streamed(items_.size());
        std::vector<char> resident(items_.size(), 0), mapped(items_.size(), 0);
        for (size_t s = 0; s < places.size(); ++s) {
            if (!places[s].used) continue;
            const Stage& stage = network_.stages()[s];
            for (size_t i = stage.first_weight; i < stage.last_weight; ++i) {
                mapped[i] = map && mappable(i);
                if (!mapped[i] && !places[s].offsets.empty()) streamed[i] = places[s].offsets[i - stage.first_weight];
                resident[i] = !mapped[i] && !streamed[i];
            }
        }
        std::erase_if(chunks_, [&](const Chunk& chunk) {
            const bool stays =
                std::all_of(chunk.items.begin(), chunk.items.end(), [&](size_t i) { return resident[i]; });
            for (const size_t i : chunk.items)
                if (!stays) detach(i);
            return !stays;
        });
        if (shared_ && shared_->lease.bytes() != shared_bytes) drop_shared();
        for (size_t i = 0; i < items_.size(); ++i)
            if ((items_[i].streamed && !streamed[i]) || (items_[i].mapped && !mapped[i])) detach(i);
        if (!shared_ && shared_bytes > 0) {
            shared_ = device_.allocate(MemoryClass::slots, shared_bytes);
            ggml_backend_buffer_set_usage(shared_->buffer.get(), GGML_BACKEND_BUFFER_USAGE_WEIGHTS);
        }
        // Weights that keep their places may still be on their way, so they are not touched.
        std::vector<size_t> lacking;
        const auto& weights = network_.weights().all();
        for (size_t i = 0; i < items_.size(); ++i) {
            if (streamed[i]) {
                std::byte* address = shared_->data() + *streamed[i];
                if (!items_[i].streamed || weights[i].tensor->data != address)
                    attach(i, shared_->buffer.get(), address);
                if (!items_[i].streamed) items_[i].streamed = true;
                continue;
            }
            const bool stale = items_[i].generation != weights[i].source->generation();
            if (mapped[i] && (!items_[i].mapped || stale)) map_file(i);
            if (resident[i] && !items_[i].resident) lacking.push_back(i);
            if (resident[i] && stale) items_[i].loaded = false;
        }
        if (!map) mappings_.clear();
        take_residents(lacking);
        settle_pinned();
    } catch (...) {
        release();
        throw;
    }
    placed_ = true;
}

void WeightStore::take_residents(const std::vector<size_t>& residents) {
    uint64_t all = 0;
    for (const size_t i : residents) all += items_[i].bytes;
    const uint64_t least =
        device_.queues_uploads() ? calibration::min_buffer_bytes : calibration::min_host_buffer_bytes;
    const uint64_t size =
        std::min<uint64_t>({std::max(all / calibration::resident_buffers, least), calibration::max_buffer_bytes,
                            ggml_backend_buft_get_max_size(device_.buffer_type())});
    for (size_t first = 0; first < residents.size();) {
        uint64_t bytes = 0;
        size_t last = first;
        while (last < residents.size() && (last == first || (bytes + items_[residents[last]].bytes <= size &&
                                                             together(residents[first], residents[last]))))
            bytes += items_[residents[last++]].bytes;
        Chunk chunk{device_.allocate(MemoryClass::weights, bytes), {}};
        ggml_backend_buffer_set_usage(chunk.buffer.buffer.get(), GGML_BACKEND_BUFFER_USAGE_WEIGHTS);
        std::byte* address = chunk.buffer.data();
        for (; first < last; ++first) {
            attach(residents[first], chunk.buffer.buffer.get(), address);
            address += items_[residents[first]].bytes;
            items_[residents[first]].resident = true;
            chunk.items.push_back(residents[first]);
        }
        chunks_.push_back(std::move(chunk));
    }
    std::stable_sort(chunks_.begin(), chunks_.end(),
                     [](const Chunk& a, const Chunk& b) { return a.items.front() < b.items.front(); });
}

uint64_t WeightStore::load(size_t stage, const std::vector<size_t>& weights, const std::atomic<bool>& stop) {
    const Stage& s = network_.stages()[stage];
    uint64_t bytes = 0;
    const auto load_one = [&](size_t i) {
        if (stop) fail(SDCPP_CANCELLED, "cancelled");
        const Weight& one = network_.weights().all()[i];
        upload(one, items_[i], items_[i].streamed, stop);
        if (items_[i].streamed) clear_padding(one, stop);
        bytes += items_[i].bytes;
    };
    for (size_t i = s.first_weight; weights.empty() && i < s.last_weight; ++i) {
        if (!items_[i].resident || items_[i].loaded) continue;
        load_one(i);
        items_[i].loaded = true;
    }
    for (const size_t weight : weights) load_one(s.first_weight + weight);
    return bytes;
}

UploadQueue* WeightStore::queue() {
    if (!queue_ && device_.queues_uploads()) queue_ = std::make_unique<UploadQueue>(device_);
    return queue_.get();
}

// Repeated uploads go from a copy in host memory if memory is plenty. A copy pays if the weight must be converted
// anyway, or if copying from the file holds the uploads up.
std::byte* WeightStore::make_copy(Item& item, size_t size, bool unchanged) {
    if (queue() && pinning_ == Pinning::undecided && (!unchanged || queue()->waits_for_copies())) {
        uint64_t all = 0;
        for (const Item& one : items_) all += one.streamed && !one.copy ? one.bytes : 0;
        pinning_ = host_available_bytes() > calibration::kept_free_bytes + all ? Pinning::yes : Pinning::no;
        if (pinning_ == Pinning::yes) {
            log(SDCPP_LOG_INFO, network_.name() + ": streamed weights are kept in pinned memory, " +
                                    std::to_string(all >> 20) + " MiB");
            queue()->pin_ahead(all + all / calibration::pinned_spare_share);
        }
    }
    if (pinning_ == Pinning::yes) {
        item.copy = queue()->take_pinned(size);
        item.pinned = item.copy != nullptr;
        if (item.pinned || unchanged) return item.copy;
    }
    if (unchanged || host_available_bytes() <= calibration::kept_free_bytes + size) return nullptr;
    item.converted.resize(size);
    return item.copy = item.converted.data();
}

// Moves a converted copy to pinned memory, which was not there when the copy was made.
void WeightStore::move_to_pinned(Item& item, size_t size) {
    std::byte* target = pinning_ == Pinning::yes ? queue()->take_pinned(size) : nullptr;
    if (!target) return;
    queue()->copy(target, size, UploadQueue::from_memory(item.converted.data()));
    item.copy = target;
    item.pinned = true;
    item.converted = {};
}

// After a change of places: the pinned memory of weights that stay on the device now is for those that are streamed
// now.
void WeightStore::settle_pinned() {
    if (pinning_ != Pinning::yes) return;
    queue_->finish();  // an upload may be under way from memory that is given back
    uint64_t wanted = 0;
    for (size_t i = 0; i < items_.size(); ++i) {
        Item& item = items_[i];
        if (item.streamed && !item.copy) wanted += item.bytes + item.bytes / calibration::pinned_spare_share;
        if (!item.resident || !item.pinned) continue;
        queue_->give_pinned(item.copy, ggml_nbytes(network_.weights().all()[i].tensor));
        item.copy = nullptr;
        item.pinned = false;
    }
    const uint64_t left = queue_->free_pinned_bytes();
    if (wanted > left && host_available_bytes() > calibration::kept_free_bytes + wanted - left)
        queue_->pin_ahead(wanted - left);
}

// `again`: the weight will be uploaded more than once.
void WeightStore::upload(const Weight& weight, Item& item, bool again, const std::atomic<bool>& stop) {
    const size_t size = ggml_nbytes(weight.tensor);
    const std::span<const std::byte> unchanged = weight.source->bytes_as(weight.tensor->type);
    const bool as_it_is = !unchanged.empty();
    // On the CPU the budget holds for the process, to which pages of the file count while they are mapped.
    const bool forget = device_.is_cpu();
    const uint64_t generation = std::exchange(item.generation, weight.source->generation());
    const bool stale = item.copy && generation != item.generation;
    const bool reachable = ggml_backend_buffer_is_host(weight.tensor->buffer);
    struct Mark {  // values that were not loaded to the end are no generation's
        Item& item;
        const int before = std::uncaught_exceptions();
        ~Mark() {
            if (std::uncaught_exceptions() > before) item.generation = unknown;
        }
    } const mark{item};
    if (reachable && (as_it_is || (!item.copy && (device_.is_cpu() || !again)))) {
        convert_weight(weight, weight.tensor->type, static_cast<std::byte*>(weight.tensor->data), 1, forget);
        return;
    }
    if (stale && queue()) queue()->finish();  // an upload from the copy may be on its way
    if (item.copy && !item.pinned) move_to_pinned(item, size);
    const UploadQueue::Source from_file = [&](std::byte* target, size_t first, size_t bytes) {
        weight.source->read(unchanged.subspan(first, bytes), target);
    };
    const std::byte* in_memory = item.copy;  // null: the file
    if (!item.copy || stale) {
        std::byte* target = stale ? item.copy : again ? make_copy(item, size, as_it_is) : nullptr;
        if (!target && !as_it_is) {
            staging_.resize(size);
            target = staging_.data();
        }
        const int threads = device_.queues_uploads() ? physical_cores() : 1;  // on the CPU they belong to the compute
        if (target && item.pinned && as_it_is)
            queue_->copy(target, size, from_file);
        else if (target)
            convert_weight(weight, weight.tensor->type, target, threads, forget);
        in_memory = target;
    }
    if (!queue())  // memory that the processor reaches takes unchanged weights above
        ggml_backend_tensor_set(weight.tensor, in_memory, 0, size);
    else if (item.pinned)
        queue_->put_pinned(weight.tensor, in_memory);
    else
        queue_->put(weight.tensor, size, in_memory ? UploadQueue::from_memory(in_memory) : from_file, stop);
}

// Kernels may read beyond the rows of a quantized weight, up to a whole tile: not what another weight has left there.
void WeightStore::clear_padding(const Weight& weight, const std::atomic<bool>& stop) {
    static constexpr std::array<std::byte, 4096> zeros{};
    const size_t size = ggml_nbytes(weight.tensor), used = device_.weight_bytes(weight.tensor);
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
            queue_->put(&padding, bytes, UploadQueue::from_memory(zeros.data()), stop);
        else
            ggml_backend_tensor_set(&padding, zeros.data(), 0, bytes);
    }
}

bool WeightStore::mapped_files_changed() const {
    return std::any_of(mappings_.begin(), mappings_.end(), [](const auto& one) { return one.first->changed(); });
}

std::vector<MappedFile::Hold> WeightStore::hold_mapped_files() const {
    std::vector<MappedFile::Hold> out;
    out.reserve(mappings_.size());
    for (const auto& [file, buffer] : mappings_) out.emplace_back(*file);
    return out;
}

void WeightStore::require_mapped_files_unchanged() const {
    for (const auto& [file, buffer] : mappings_) file->require_unchanged();
}

uint64_t WeightStore::held_bytes() const {
    uint64_t sum = shared_ ? shared_->lease.bytes() : 0;
    for (const Chunk& chunk : chunks_) sum += chunk.buffer.lease.bytes();
    return sum;
}

uint64_t WeightStore::unloaded_bytes() const {
    uint64_t sum = 0;
    for (const Item& item : items_) sum += item.resident && !item.loaded ? item.bytes : 0;
    return sum;
}

}  // namespace sdcpp
