// A network's weights and their places on a device: mapped from the file, resident, or streamed, which have their
// places for a while. The master copy is the mapped file. If host memory is plenty, the store keeps converted copies of
// streamed weights.
#pragma once

#include <atomic>
#include <cstddef>
#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "device/upload_queue.h"
#include "nn/context.h"
#include "nn/network.h"

namespace sdcpp {

class WeightStore {
  public:
    // Gives each weight of `network` its tensor, without memory. `types` as in stored_type().
    WeightStore(Device& device, Network& network, const TypeRules& types);
    ~WeightStore();
    WeightStore(const WeightStore&) = delete;
    WeightStore& operator=(const WeightStore&) = delete;

    // Weights from number `first` on, and stages, have been declared since; or all but the first so many are about to
    // be taken back. Other weights keep their places and contents.
    void extend(size_t first);
    void cut(size_t stages, size_t weights);

    // Bytes of a stage's weights on the device, alignment included.
    uint64_t stage_bytes(size_t stage) const;
    // Bytes of those that cannot be mapped.
    uint64_t copied_bytes(size_t stage) const;

    // Bytes of each weight of a stage, alignment included.
    std::vector<uint64_t> weight_bytes(size_t stage) const;

    // Places of a stage's weights: memory of their own or, for streamed ones, an offset in the memory that these share.
    struct Place {
        std::vector<std::optional<uint64_t>> offsets{};  // each weight's in the shared memory; empty: none is streamed
        bool used = true;                                // false: the stage does not run
    };
    // Takes the memory that is lacking; nothing is loaded yet. Resident weights that stay resident keep their place and
    // contents; streamed ones keep theirs if `shared_bytes` stays the same. `map`: weights that the device can compute
    // with in the mapped file stay there. Throws SDCPP_OUT_OF_MEMORY, and then holds nothing.
    void place(const std::vector<Place>& places, uint64_t shared_bytes, bool map);
    void release();
    // Gives memory of at least `bytes` back, or all, from the last stages' weights on; place() takes it again.
    void give_back(uint64_t bytes);
    bool placed() const { return placed_; }
    // Bytes of residents that load() has yet to load.
    uint64_t unloaded_bytes() const;
    // Whether values have changed since they were loaded: place() makes load() read those residents again. Streamed
    // weights follow without it.
    bool stale() const;

    // Loads these of a stage's weights into their places or, if none are named, its residents that are not loaded yet;
    // returns the bytes that go through the link. Stops early, with SDCPP_CANCELLED, when `stop` is set.
    uint64_t load(size_t stage, const std::vector<size_t>& weights, const std::atomic<bool>& stop);
    // A number that arrived() reaches when all loads so far have arrived: at once, except on devices that have a queue
    // for uploads.
    uint64_t mark() { return queue_ ? queue_->mark() : 0; }
    uint64_t arrived() const { return queue_ ? queue_->arrived() : 0; }
    void finish() {
        if (queue_) queue_->finish();
    }

    uint64_t mapped_bytes() const { return mapped_bytes_; }
    // Whether a file in which weights are used in place has changed, and the error of that (SDCPP_BAD_FILE).
    bool mapped_files_changed() const;
    // Keeps others from changing those files, as far as the system allows.
    std::vector<MappedFile::Hold> hold_mapped_files() const;
    void require_mapped_files_unchanged() const;
    uint64_t held_bytes() const;

  private:
    struct Item {            // a weight
        uint64_t bytes = 0;  // on the device, alignment included
        bool mapped = false, streamed = false;
        bool resident = false, loaded = false;  // it has a place of its own; its bytes are there
        uint64_t generation = 0;                // the generation of the source's values that were loaded, or copied
        // In host memory, for the next upload: pinned by the queue, or `converted`. Null: no copy.
        std::byte* copy = nullptr;
        bool pinned = false;
        std::vector<std::byte> converted;
    };
    UploadQueue* queue();
    std::byte* make_copy(Item& item, size_t size, bool unchanged);
    void move_to_pinned(Item& item, size_t size);
    void settle_pinned();
    void detach(size_t item);
    void attach(size_t item, ggml_backend_buffer_t buffer, std::byte* address);
    void map_file(size_t item);
    uint64_t drop_shared();
    void take_residents(const std::vector<size_t>& residents);
    void upload(const Weight& weight, Item& item, bool again, const std::atomic<bool>& stop);
    void clear_padding(const Weight& weight, const std::atomic<bool>& stop);
    bool mappable(size_t item) const;

    bool together(size_t one, size_t other) const;

    Device& device_;
    Network& network_;
    TypeRules types_;
    struct Part {  // weights that were declared together
        size_t first;
        Context context;
    };
    std::vector<Part> parts_;
    std::vector<Item> items_;
    std::vector<uint64_t> stage_bytes_;
    struct Chunk {
        DeviceBuffer buffer;
        std::vector<size_t> items;  // residents that lie in it
    };
    bool placed_ = false;
    std::vector<Chunk> chunks_;           // in the order of their stages
    std::optional<DeviceBuffer> shared_;  // by streamed weights
    std::map<const MappedFile*, ggml_backend_buffer_ptr> mappings_;
    std::vector<std::byte> staging_;
    std::unique_ptr<UploadQueue> queue_;
    enum class Pinning { undecided, yes, no } pinning_ = Pinning::undecided;
    uint64_t mapped_bytes_ = 0;
};

}  // namespace sdcpp
