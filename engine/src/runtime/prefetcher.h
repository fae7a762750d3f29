// Loads weights onto the device ahead of the compute: on a thread of its own, as soon as their place is free, also
// across passes.
#pragma once

#include <chrono>
#include <condition_variable>
#include <deque>
#include <exception>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "runtime/weight_store.h"

namespace sdcpp {

class Prefetcher {
  public:
    // Weights that are loaded as one: streamed ones in each pass, resident ones once.
    struct Load {
        size_t segment = 0, stage = 0;  // the segment that needs it
        std::vector<size_t> weights{};  // the stage's streamed weights; empty: its residents
        int64_t after = 0;              // for streamed weights, see PlannedPiece
        bool once() const { return weights.empty(); }
    };
    enum class Mode {
        ahead,     // as soon as there is room, on a thread
        by_pass,   // likewise, but a pass's weights not before the pass begins
        on_demand  // within wait()
    };
    // `loads` are in the order of their segments; `segments` is the number of segments.
    Prefetcher(Device& device, WeightStore& store, std::vector<Load> loads, size_t segments, Mode mode);
    ~Prefetcher();
    Prefetcher(const Prefetcher&) = delete;
    Prefetcher& operator=(const Prefetcher&) = delete;

    // Returns when the weights of `segment` have arrived for the present pass. Segments are asked for in order, pass
    // after pass. Throws what loading threw, and SDCPP_CANCELLED.
    void wait(size_t segment);
    // The segment has been computed: the next weights may take its place.
    void done();

    struct Counts {
        uint64_t uploaded_bytes = 0;
        double upload_seconds = 0, stall_seconds = 0;  // the link at work; the compute waiting for it
    };
    Counts take_counts();

  private:
    using Time = std::chrono::steady_clock::time_point;
    void work();
    void fetch(const Load& load);
    void count_arrivals();
    void drain();

    Device& device_;
    WeightStore& store_;
    const std::vector<Load> loads_;
    std::vector<size_t> ends_;  // one past each segment's last load
    const Mode mode_;
    const bool streams_;
    std::mutex mutex_;
    std::condition_variable changed_;
    uint64_t fetched_ = 0;           // loads that have arrived, over all passes
    uint64_t asked_ = 0, done_ = 0;  // segments, over all passes
    Time link_free_{};               // on a simulated link
    // For a device with an upload queue: the marks of the loads in flight, and the time since which the link has been
    // at work.
    std::deque<uint64_t> in_flight_{};
    std::optional<Time> busy_since_{};
    Counts counts_;
    std::exception_ptr problem_;
    std::atomic<bool> stop_{false};
    std::thread thread_;
};

}  // namespace sdcpp
