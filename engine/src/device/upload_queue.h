// Uploads to a device that has a queue for them: during the compute, without pause, from memory that the device can
// reach (pinned). Weights that lie elsewhere, such as in a mapped file, are copied there first, piece by piece.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "base/clock.h"
#include "device/device.h"
#include "device/parallel_copy.h"

namespace sdcpp {

class UploadQueue {
  public:
    // `device` queues uploads. Each queue is one of its own, so that several may be at work at a time.
    explicit UploadQueue(Device& device);
    ~UploadQueue();
    UploadQueue(const UploadQueue&) = delete;
    UploadQueue& operator=(const UploadQueue&) = delete;

    // The source of an upload's bytes: copies those from `first` on. It is called by several threads at a time.
    using Source = std::function<void(std::byte* target, size_t first, size_t bytes)>;
    static Source from_memory(const std::byte* bytes);

    // Starts the upload of the `bytes` bytes of `tensor` from anywhere. Stops early, with SDCPP_CANCELLED, when `stop`
    // is set; throws what `source` throws.
    void put(ggml_tensor* tensor, size_t bytes, const Source& source, const std::atomic<bool>& stop);
    // Starts the upload of all of `tensor` from pinned memory, which must not change until the upload has arrived.
    void put_pinned(ggml_tensor* tensor, const std::byte* source);

    // A number that arrived() reaches when all uploads so far have arrived.
    uint64_t mark();
    uint64_t arrived() const { return arrived_; }
    // Waits for all uploads.
    void finish();

    // Whether copying to pinned memory takes longer than the uploads, so that pinned weights would be faster.
    bool waits_for_copies() const;
    // Begins to take so many bytes more of memory that put_pinned() takes, on a thread: pinning is slow, and uploads go
    // on meanwhile.
    void pin_ahead(uint64_t bytes);
    // A part of that memory, until it is given back or the queue ends; null if there is none yet.
    std::byte* take_pinned(size_t bytes);
    // Gives a part back, of the size that was taken. No upload from it may be under way.
    void give_pinned(std::byte* part, size_t bytes);
    // Bytes that can be taken, or will be.
    uint64_t free_pinned_bytes();
    // Copies with several threads.
    void copy(std::byte* target, size_t bytes, const Source& source) { copy(target, 0, bytes, source); }

  private:
    struct EventFree {
        void operator()(ggml_backend_event* event) const { ggml_backend_event_free(event); }
    };
    struct Staging {
        std::unique_ptr<ggml_backend_event, EventFree> event;  // its last upload's; null: the device has none
        uint64_t number = 0;
        size_t bytes = 0;
        Clock::time_point arrival{};  // no earlier, on a link that is slowed down
    };
    ggml_backend_buffer_ptr allocate_pinned(size_t bytes) const;
    void copy(std::byte* target, size_t first, size_t bytes, const Source& source);
    void submit(ggml_tensor* tensor, const std::byte* source, size_t at, size_t bytes);
    void open();
    void close();

    Device& device_;
    ParallelCopy copy_;
    ggml_backend_ptr queue_;
    ggml_backend_buffer_ptr memory_;  // all pieces
    struct Pinned {
        ggml_backend_buffer_ptr buffer;
        std::byte* free = nullptr;
        size_t left = 0;
    };
    std::mutex pinned_mutex_;
    std::vector<Pinned> pinned_;  // blocks, and parts of them that were given back
    uint64_t to_pin_ = 0;
    bool pinning_now_ = false;
    std::thread pinning_;
    std::array<Staging, 4> staging_;
    size_t turn_ = 0, staged_bytes_ = 0;  // the open piece
    bool open_ = false;
    uint64_t issued_ = 0, arrived_ = 0;
    uint64_t copied_bytes_ = 0;
    double copy_seconds_ = 0, wait_seconds_ = 0;
    Clock::time_point link_free_{};
};

}  // namespace sdcpp
