// A request to stop that reaches work deep within files, which has no object to ask.
#pragma once

#include <cstdint>
#include <utility>

#include "base/error.h"

namespace sdcpp {

// While this lives, stop_point() on this thread looks at a flag of the caller's, which any thread may set. Null: none.
class StopFlag {
  public:
    explicit StopFlag(const volatile int32_t* flag) : before_(std::exchange(current(), flag)) {}
    ~StopFlag() { current() = before_; }
    StopFlag(const StopFlag&) = delete;
    StopFlag& operator=(const StopFlag&) = delete;

    static bool is_set() { return current() && *current() != 0; }

  private:
    static const volatile int32_t*& current() {
        thread_local const volatile int32_t* flag = nullptr;
        return flag;
    }

    const volatile int32_t* before_;
};

// Throws SDCPP_CANCELLED if the flag is set. For loops over what a file holds.
inline void stop_point() {
    if (StopFlag::is_set()) fail(SDCPP_CANCELLED, "cancelled");
}

}  // namespace sdcpp
