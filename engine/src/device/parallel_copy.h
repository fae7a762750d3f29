// Copies memory with several threads, which wait between copies: one thread does not keep up with a fast link.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <mutex>
#include <thread>
#include <vector>

namespace sdcpp {

class ParallelCopy {
  public:
    // `threads`: the caller's included.
    explicit ParallelCopy(int threads);
    ~ParallelCopy();
    ParallelCopy(const ParallelCopy&) = delete;
    ParallelCopy& operator=(const ParallelCopy&) = delete;

    // Returns when all is copied. One caller at a time.
    void operator()(std::byte* target, const std::byte* source, size_t bytes);

  private:
    void work(size_t number);
    void copy_share(size_t number) const;

    std::mutex mutex_;
    std::condition_variable changed_;
    std::byte* target_ = nullptr;
    const std::byte* source_ = nullptr;
    size_t bytes_ = 0, copies_ = 0, busy_ = 0;
    bool stop_ = false;
    std::vector<std::thread> threads_;
};

}  // namespace sdcpp
