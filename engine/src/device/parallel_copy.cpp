#include "device/parallel_copy.h"

#include <algorithm>
#include <utility>

#include "base/error.h"

namespace sdcpp {
namespace {

constexpr size_t alone_bytes = size_t{1} << 20;  // not worth waking threads for
constexpr size_t alignment = 64;

}  // namespace

ParallelCopy::ParallelCopy(int threads) {
    for (int i = 1; i < threads; ++i) threads_.emplace_back([this, i] { work(static_cast<size_t>(i)); });
}

ParallelCopy::~ParallelCopy() {
    {
        const std::scoped_lock lock(mutex_);
        stop_ = true;
    }
    changed_.notify_all();
    for (std::thread& thread : threads_) thread.join();
}

void ParallelCopy::copy_share(size_t number) noexcept {
    const size_t share = (bytes_ / (threads_.size() + 1) + alignment) / alignment * alignment;
    const size_t first = std::min(bytes_, number * share), end = std::min(bytes_, first + share);
    if (end <= first) return;
    try {
        (*copy_)(first, end - first);
    } catch (...) {
        const std::scoped_lock lock(mutex_);
        problem_ = std::current_exception();
    }
}

void ParallelCopy::operator()(size_t bytes, const Copy& copy) {
    if (threads_.empty() || bytes < alone_bytes) return copy(0, bytes);
    {
        const std::scoped_lock lock(mutex_);
        copy_ = &copy;
        bytes_ = bytes;
        busy_ = threads_.size();
        ++copies_;
    }
    changed_.notify_all();
    copy_share(0);
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return busy_ == 0; });
    if (problem_) std::rethrow_exception(std::exchange(problem_, nullptr));
}

void ParallelCopy::work(size_t number) {
    prepare_for_exceptions();
    for (size_t seen = 0;;) {
        std::unique_lock lock(mutex_);
        changed_.wait(lock, [&] { return stop_ || copies_ != seen; });
        if (stop_) return;
        seen = copies_;
        lock.unlock();
        copy_share(number);
        lock.lock();
        if (--busy_ == 0) changed_.notify_all();
    }
}

}  // namespace sdcpp
