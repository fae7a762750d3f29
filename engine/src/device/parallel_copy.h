// Copies memory, or parts of a file, with several threads, which wait between copies: one thread does not keep up with
// a fast link.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <exception>
#include <functional>
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

    // Copies `bytes` bytes, of which `copy` copies those from `first` on; it is called by several threads at a time.
    // Returns when all is copied, and throws what `copy` threw. One caller at a time.
    using Copy = std::function<void(size_t first, size_t bytes)>;
    void operator()(size_t bytes, const Copy& copy);

  private:
    void work(size_t number);
    void copy_share(size_t number) noexcept;

    std::mutex mutex_;
    std::condition_variable changed_;
    const Copy* copy_ = nullptr;
    std::exception_ptr problem_;
    size_t bytes_ = 0, copies_ = 0, busy_ = 0;
    bool stop_ = false;
    std::vector<std::thread> threads_;
};

}  // namespace sdcpp
