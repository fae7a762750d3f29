#include "runtime/courier.h"

#include <algorithm>

#include "base/clock.h"
#include "base/error.h"

namespace sdcpp {
Courier::Courier(Device& device, WeightStore& store, std::vector<Segment> segments, Mode mode)
    : device_(device), store_(store), segments_(std::move(segments)), mode_(mode) {
    int slots = 0;
    for (const Segment& segment : segments_) slots = std::max(slots, segment.slot + 1);
    slot_taken_.assign(static_cast<size_t>(slots), 0);
    if (mode_ == Mode::ahead) thread_ = std::thread([this] { work(); });
}

Courier::~Courier() {
    {
        const std::scoped_lock lock(mutex_);
        stop_ = true;
    }
    changed_.notify_all();
    if (thread_.joinable()) thread_.join();
}

bool Courier::streams() const { return !slot_taken_.empty(); }

// Loads what `segment` lacks, no faster than a simulated link is.
void Courier::bring(size_t segment) {
    const auto start = Clock::now();
    uint64_t bytes = 0;
    const double link = device_.simulated_link_bytes_per_s();
    for (const size_t stage : segments_[segment].stages) {
        if (!store_.needs_loading(stage)) continue;
        bytes += store_.load(stage, stop_);
        if (link <= 0) continue;
        const auto due = start + std::chrono::duration_cast<Clock::duration>(
                                     std::chrono::duration<double>(static_cast<double>(bytes) / link));
        std::unique_lock lock(mutex_);
        changed_.wait_until(lock, due, [&] { return stop_.load() || device_.cancelled(); });
    }
    const std::scoped_lock lock(mutex_);
    counts_.uploaded_bytes += bytes;
    if (bytes > 0) counts_.upload_seconds += seconds_since(start);
}

void Courier::work() {
    try {
        while (true) {
            const size_t segment = brought_ % segments_.size();
            const int slot = segments_[segment].slot;
            {
                std::unique_lock lock(mutex_);
                if (brought_ >= segments_.size() && !streams()) return;  // all residents are there
                changed_.wait(lock, [&] { return stop_ || slot < 0 || !slot_taken_[static_cast<size_t>(slot)]; });
                // residents of later passes are there: no need to run ahead of the compute without end
                changed_.wait(lock, [&] { return stop_ || brought_ < asked_ + segments_.size(); });
                if (stop_) return;
            }
            bring(segment);
            const std::scoped_lock lock(mutex_);
            if (slot >= 0) slot_taken_[static_cast<size_t>(slot)] = 1;
            ++brought_;
            changed_.notify_all();
        }
    } catch (...) {
        const std::scoped_lock lock(mutex_);
        problem_ = std::current_exception();
        changed_.notify_all();
    }
}

void Courier::wait(size_t segment) {
    const auto start = Clock::now();
    if (mode_ == Mode::on_demand) {
        bring(segment);
        const std::scoped_lock lock(mutex_);
        counts_.stall_seconds += seconds_since(start);
        return;
    }
    std::unique_lock lock(mutex_);
    ++asked_;
    changed_.notify_all();
    const auto there = [&] { return problem_ || brought_ >= asked_ || (!streams() && brought_ >= segments_.size()); };
    while (!changed_.wait_for(lock, std::chrono::milliseconds(50), there))
        if (device_.cancelled()) fail(SDCPP_CANCELLED, "cancelled");
    if (problem_) std::rethrow_exception(problem_);
    counts_.stall_seconds += seconds_since(start);
}

void Courier::done(size_t segment) {
    const int slot = segments_[segment].slot;
    if (slot < 0 || mode_ == Mode::on_demand) return;
    const std::scoped_lock lock(mutex_);
    slot_taken_[static_cast<size_t>(slot)] = 0;
    changed_.notify_all();
}

Courier::Counts Courier::take_counts() {
    const std::scoped_lock lock(mutex_);
    return std::exchange(counts_, {});
}

}  // namespace sdcpp
