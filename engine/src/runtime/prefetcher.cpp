#include "runtime/prefetcher.h"

#include <algorithm>

#include "base/clock.h"
#include "base/error.h"

namespace sdcpp {

Prefetcher::Prefetcher(Device& device, WeightStore& store, std::vector<Load> loads, size_t segments, Mode mode)
    : device_(device),
      store_(store),
      loads_(std::move(loads)),
      mode_(mode),
      streams_(std::any_of(loads_.begin(), loads_.end(), [](const Load& load) { return !load.once(); })) {
    for (size_t segment = 0, end = 0; segment < segments; ++segment) {
        while (end < loads_.size() && loads_[end].segment == segment) ++end;
        ends_.push_back(end);
    }
    if (mode_ != Mode::on_demand) thread_ = std::thread([this] { work(); });
}

Prefetcher::~Prefetcher() {
    {
        const std::scoped_lock lock(mutex_);
        stop_ = true;
    }
    changed_.notify_all();
    if (thread_.joinable()) thread_.join();
}

// No faster than a simulated link. A device's own queue keeps to the pace without help.
void Prefetcher::fetch(const Load& load) {
    const auto start = Clock::now();
    const uint64_t bytes = store_.load(load.stage, load.weights, stop_);
    if (bytes == 0) return;
    if (const double link = device_.paced_link_bytes_per_s(); link > 0 && device_.simulated()) {
        link_free_ =
            std::max(link_free_, start) + std::chrono::duration_cast<Clock::duration>(
                                              std::chrono::duration<double>(static_cast<double>(bytes) / link));
        std::unique_lock lock(mutex_);
        changed_.wait_until(lock, link_free_, [&] { return stop_.load() || device_.cancelled(); });
    }
    const std::scoped_lock lock(mutex_);
    counts_.uploaded_bytes += bytes;
    if (!device_.queues_uploads())
        counts_.upload_seconds += seconds_since(start);
    else if (!busy_since_)
        busy_since_ = start;
}

// Counts the loads that have arrived, and wakes wait().
void Prefetcher::count_arrivals() {
    const std::scoped_lock lock(mutex_);
    const uint64_t before = fetched_;
    for (; !in_flight_.empty() && in_flight_.front() <= store_.arrived(); ++fetched_) in_flight_.pop_front();
    if (fetched_ > before) changed_.notify_all();
}

// Waits for all loads in flight: there is nothing else to do.
void Prefetcher::drain() {
    store_.finish();
    count_arrivals();
    const std::scoped_lock lock(mutex_);
    if (busy_since_) counts_.upload_seconds += seconds_since(*busy_since_);
    busy_since_.reset();
}

void Prefetcher::work() {
    prepare_for_exceptions();
    if (device_.is_cpu()) give_way();
    try {
        for (uint64_t pass = 0; pass == 0 || streams_; ++pass) {
            for (const Load& load : loads_) {
                if (!load.once() || pass == 0) {
                    const auto before = load.once() ? 0 : static_cast<int64_t>(pass * ends_.size()) + load.after + 1;
                    const uint64_t begun = mode_ == Mode::by_pass && pass > 0 ? pass * ends_.size() + 1 : 0;
                    const auto may_start = [&] {
                        return stop_ || (static_cast<int64_t>(done_) >= before && asked_ >= begun);
                    };
                    std::unique_lock lock(mutex_);
                    if (!may_start()) {
                        lock.unlock();
                        drain();
                        lock.lock();
                        changed_.wait(lock, may_start);
                    }
                    lock.unlock();
                    if (stop_) break;
                    fetch(load);
                }
                in_flight_.push_back(store_.mark());
                count_arrivals();
            }
            if (stop_) break;
        }
        drain();
    } catch (...) {
        store_.finish();
        const std::scoped_lock lock(mutex_);
        problem_ = std::current_exception();
        changed_.notify_all();
    }
}

void Prefetcher::wait(size_t segment) {
    const auto start = Clock::now();
    if (mode_ == Mode::on_demand) {
        const bool first = asked_++ < ends_.size();
        for (size_t i = segment == 0 ? 0 : ends_[segment - 1]; i < ends_[segment]; ++i)
            if (first || !loads_[i].once()) fetch(loads_[i]);
        drain();
        const std::scoped_lock lock(mutex_);
        counts_.stall_seconds += seconds_since(start);
        return;
    }
    std::unique_lock lock(mutex_);
    const uint64_t pass = streams_ ? asked_ / ends_.size() : 0;
    ++asked_;
    changed_.notify_all();
    const uint64_t needed = pass * loads_.size() + ends_[segment];
    while (!changed_.wait_for(lock, std::chrono::milliseconds(50), [&] { return problem_ || fetched_ >= needed; }))
        if (device_.cancelled()) fail(SDCPP_CANCELLED, "cancelled");
    if (problem_) std::rethrow_exception(problem_);
    counts_.stall_seconds += seconds_since(start);
}

void Prefetcher::done() {
    const std::scoped_lock lock(mutex_);
    ++done_;
    changed_.notify_all();
}

Prefetcher::Counts Prefetcher::take_counts() {
    const std::scoped_lock lock(mutex_);
    if (busy_since_) {
        counts_.upload_seconds += seconds_since(*busy_since_);
        busy_since_ = Clock::now();
    }
    return std::exchange(counts_, {});
}

}  // namespace sdcpp
