// Brings weights to the device ahead of the compute: on a thread of its own, as soon as a slot is free, also across
// passes.
#pragma once

#include <condition_variable>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

#include "runtime/weight_store.h"

namespace sdcpp {

class Courier {
  public:
    struct Segment {
        std::vector<size_t> stages;  // that need weights brought, in order
        int slot = -1;               // that the streamed ones of them share
    };
    enum class Mode {
        ahead,     // as soon as a slot is free, on a thread
        on_demand  // within wait()
    };
    Courier(Device& device, WeightStore& store, std::vector<Segment> segments, Mode mode);
    ~Courier();
    Courier(const Courier&) = delete;
    Courier& operator=(const Courier&) = delete;

    // Returns when the weights of `segment` are there for the present pass. Segments are asked for in order, pass after
    // pass. Throws what loading threw, and SDCPP_CANCELLED.
    void wait(size_t segment);
    // The segment has been computed: what comes next may take its slot.
    void done(size_t segment);

    struct Counts {
        uint64_t uploaded_bytes = 0;
        double upload_seconds = 0, stall_seconds = 0;  // the link at work; the compute waiting for it
    };
    Counts take_counts();

  private:
    void work();
    bool streams() const;
    void bring(size_t segment);

    Device& device_;
    WeightStore& store_;
    std::vector<Segment> segments_;
    Mode mode_;
    std::mutex mutex_;
    std::condition_variable changed_;
    std::vector<char> slot_taken_;
    uint64_t brought_ = 0, asked_ = 0;  // segments, over all passes
    Counts counts_;
    std::exception_ptr problem_;
    std::atomic<bool> stop_{false};
    std::thread thread_;
};

}  // namespace sdcpp
