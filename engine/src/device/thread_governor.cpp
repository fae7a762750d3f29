#include "device/thread_governor.h"

#include <algorithm>
#include <atomic>
#include <chrono>

#ifndef _WIN32
#include <sys/resource.h>
#include <unistd.h>
#endif

namespace sdcpp {
namespace {

// Computations under way in this process: the cores are divided by it.
std::atomic<int> active{0};

double now_seconds() {
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// How often this process was taken off a core against its will.
long involuntary_switches() {
#ifdef _WIN32
    return 0;
#else
    rusage usage{};
    return getrusage(RUSAGE_SELF, &usage) == 0 ? usage.ru_nivcsw : 0;
#endif
}

constexpr double crowded_switches_per_second = 100;  // per thread; a quiet machine shows a handful
constexpr double judged_seconds = 0.1;               // at least: other threads of this process may be busy for a moment
constexpr int longest_patience = 2000;

#ifdef __linux__
constexpr int niceness = 10;  // of 19
#endif

}  // namespace

void give_way() {
#ifdef __linux__
    ::setpriority(PRIO_PROCESS, static_cast<id_t>(::gettid()), niceness);
#endif
}

ThreadGovernor::Turn::Turn(ThreadGovernor& governor) : governor_(governor) {
    const int sharers = ++active;
    threads_ = std::max(1, std::min(governor.allowed_, governor.threads_ / sharers));
    start_switches_ = involuntary_switches();
    start_seconds_ = now_seconds();
}

ThreadGovernor::Turn::~Turn() {
    --active;
    governor_.learn(threads_, now_seconds() - start_seconds_, involuntary_switches() - start_switches_);
}

void ThreadGovernor::learn(int used, double seconds, long switches) {
    watched_seconds_ += seconds;
    watched_switches_ += switches;
    const bool judged = watched_seconds_ >= judged_seconds;
    const bool crowded =
        static_cast<double>(watched_switches_) >= crowded_switches_per_second * used * watched_seconds_;
    if (judged) {
        watched_seconds_ = 0;
        watched_switches_ = 0;
    }
    if (used == 1 || !judged || !crowded) {
        if (++calm_runs_ >= patience_ && allowed_ < threads_) {
            allowed_ = std::min(threads_, allowed_ * 2);
            calm_runs_ = 0;
        }
        return;
    }
    allowed_ = std::max(1, used / 2);
    calm_runs_ = 0;
    patience_ = std::min(longest_patience, patience_ * 2);
}

}  // namespace sdcpp
