#include "device/upload_queue.h"

#include <algorithm>
#include <cstring>
#include <thread>
#include <utility>

#include "base/calibration.h"
#include "base/clock.h"
#include "base/error.h"

namespace sdcpp {
namespace {

constexpr size_t piece_bytes = calibration::upload_piece_bytes, alignment = 256;

size_t aligned(size_t bytes) { return (bytes + alignment - 1) / alignment * alignment; }

// Exact to some microseconds: sleeping alone ends too late, by more than a small upload takes.
void wait_until(Clock::time_point time) {
    std::this_thread::sleep_until(time - std::chrono::microseconds(200));
    while (Clock::now() < time) std::this_thread::yield();
}

}  // namespace

UploadQueue::UploadQueue(Device& device)
    : device_(device),
      copy_(std::clamp(physical_cores() / 4, 1, calibration::max_copying_threads)),
      queue_(ggml_backend_dev_init(device.handle(), nullptr)) {
    if (!queue_) fail(SDCPP_INTERNAL, "device ", device.name(), " gives no second queue for uploads");
    memory_ = allocate_pinned(staging_.size() * piece_bytes);
    if (!memory_)
        memory_.reset(ggml_backend_buft_alloc_buffer(ggml_backend_cpu_buffer_type(), staging_.size() * piece_bytes));
    if (!memory_) fail(SDCPP_OUT_OF_MEMORY, "no memory for uploads");
    for (Staging& piece : staging_) piece.event.reset(ggml_backend_event_new(device.handle()));
}

UploadQueue::~UploadQueue() {
    {
        const std::scoped_lock lock(pinned_mutex_);
        to_pin_ = 0;
    }
    if (pinning_.joinable()) pinning_.join();
    finish();
}

ggml_backend_buffer_ptr UploadQueue::allocate_pinned(size_t bytes) const {
    ggml_backend_buffer_type_t type = ggml_backend_dev_host_buffer_type(device_.handle());
    return ggml_backend_buffer_ptr(type ? ggml_backend_buft_alloc_buffer(type, bytes) : nullptr);
}

void UploadQueue::pin_ahead(uint64_t bytes) {
    {
        const std::scoped_lock lock(pinned_mutex_);
        to_pin_ += bytes;
        if (std::exchange(pinning_now_, true)) return;
    }
    if (pinning_.joinable()) pinning_.join();
    pinning_ = std::thread([this] {
        std::unique_lock lock(pinned_mutex_);
        while (to_pin_ > 0) {
            const auto size = static_cast<size_t>(std::min<uint64_t>(to_pin_, calibration::pinned_block_bytes));
            to_pin_ -= size;
            lock.unlock();
            ggml_backend_buffer_ptr buffer = allocate_pinned(size);
            lock.lock();
            if (!buffer) break;
            auto* start = static_cast<std::byte*>(ggml_backend_buffer_get_base(buffer.get()));
            pinned_.push_back({std::move(buffer), start, size});
        }
        to_pin_ = 0;
        pinning_now_ = false;
    });
}

std::byte* UploadQueue::take_pinned(size_t bytes) {
    bytes = aligned(bytes);
    const std::scoped_lock lock(pinned_mutex_);
    for (Pinned& block : pinned_) {
        if (block.left < bytes) continue;
        block.left -= bytes;
        return std::exchange(block.free, block.free + bytes);
    }
    return nullptr;
}

void UploadQueue::give_pinned(std::byte* part, size_t bytes) {
    const std::scoped_lock lock(pinned_mutex_);
    pinned_.push_back({nullptr, part, aligned(bytes)});
}

uint64_t UploadQueue::free_pinned_bytes() {
    const std::scoped_lock lock(pinned_mutex_);
    uint64_t sum = to_pin_;
    for (const Pinned& block : pinned_) sum += block.left;
    return sum;
}

// Opens the next staging piece, as soon as its last upload has arrived.
void UploadQueue::open() {
    const Staging& piece = staging_[turn_];
    open_ = true;
    staged_bytes_ = 0;
    if (piece.number <= arrived_) return;
    const auto start = Clock::now();
    if (piece.event) {
        ggml_backend_event_synchronize(piece.event.get());
        arrived_ = piece.number;
    } else {
        ggml_backend_synchronize(queue_.get());
        arrived_ = issued_;
    }
    wait_until(piece.arrival);
    wait_seconds_ += seconds_since(start);
}

void UploadQueue::submit(ggml_tensor* tensor, const std::byte* source, size_t at, size_t bytes) {
    ggml_backend_tensor_set_async(queue_.get(), tensor, source, at, bytes);
    staging_[turn_].bytes += bytes;
}

void UploadQueue::close() {
    if (!open_) return;
    Staging& piece = staging_[turn_];
    if (const double link = device_.paced_link_bytes_per_s(); link > 0) {
        const std::chrono::duration<double> taken(static_cast<double>(piece.bytes) / link);
        link_free_ = std::max(link_free_, Clock::now()) + std::chrono::duration_cast<Clock::duration>(taken);
        piece.arrival = link_free_;
    }
    piece.bytes = 0;
    if (piece.event) ggml_backend_event_record(piece.event.get(), queue_.get());
    piece.number = ++issued_;
    turn_ = (turn_ + 1) % staging_.size();
    open_ = false;
}

UploadQueue::Source UploadQueue::from_memory(const std::byte* bytes) {
    return [bytes](std::byte* target, size_t first, size_t count) { std::memcpy(target, bytes + first, count); };
}

void UploadQueue::copy(std::byte* target, size_t first, size_t bytes, const Source& source) {
    copy_(bytes, [&](size_t at, size_t count) { source(target + at, first + at, count); });
}

void UploadQueue::put(ggml_tensor* tensor, size_t bytes, const Source& source, const std::atomic<bool>& stop) {
    auto* memory = static_cast<std::byte*>(ggml_backend_buffer_get_base(memory_.get()));
    for (size_t at = 0; at < bytes;) {
        if (stop) fail(SDCPP_CANCELLED, "cancelled");
        if (open_ && staged_bytes_ >= piece_bytes) close();
        if (!open_) open();
        const size_t part = std::min(bytes - at, piece_bytes - staged_bytes_);
        std::byte* target = memory + turn_ * piece_bytes + staged_bytes_;
        const auto start = Clock::now();
        copy(target, at, part, source);
        copy_seconds_ += seconds_since(start);
        submit(tensor, target, at, part);
        staged_bytes_ += aligned(part);
        at += part;
        copied_bytes_ += part;
    }
}

void UploadQueue::put_pinned(ggml_tensor* tensor, const std::byte* source) {
    if (!open_) open();
    submit(tensor, source, 0, ggml_nbytes(tensor));
}

uint64_t UploadQueue::mark() {
    close();
    return issued_;
}

void UploadQueue::finish() {
    close();
    if (arrived_ == issued_) return;
    const auto start = Clock::now();
    ggml_backend_synchronize(queue_.get());
    wait_until(link_free_);
    wait_seconds_ += seconds_since(start);
    arrived_ = issued_;
}

bool UploadQueue::waits_for_copies() const {
    return copied_bytes_ >= calibration::judged_copied_bytes &&
           wait_seconds_ < calibration::slow_copying_share * copy_seconds_;
}

}  // namespace sdcpp
