#include "device/thread_governor.h"

#include <algorithm>
#include <atomic>

#ifndef _WIN32
#include <sys/resource.h>
#include <unistd.h>
#endif

namespace sdcpp {
namespace {

// Computations under way in this process: the cores are divided by it.
std::atomic<int> active{0};

// This process so far: time on cores, and the number of forced switches.
struct Usage {
    double cpu_seconds = 0;
    long switches = 0;
};

Usage usage_so_far() {
#ifdef _WIN32
    return {};
#else
    rusage usage{};
    if (getrusage(RUSAGE_SELF, &usage) != 0) return {};
    const auto seconds = [](const timeval& time) {
        return static_cast<double>(time.tv_sec) + 1e-6 * static_cast<double>(time.tv_usec);
    };
    return {seconds(usage.ru_utime) + seconds(usage.ru_stime), usage.ru_nivcsw};
#endif
}

#ifdef __linux__
constexpr int niceness = 10;  // The highest is 19.
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
    const Usage usage = usage_so_far();
    start_cpu_seconds_ = usage.cpu_seconds;
    start_switches_ = usage.switches;
}

ThreadGovernor::Turn::~Turn() {
    --active;
    const Usage usage = usage_so_far();
    governor_.learn(threads_, usage.cpu_seconds - start_cpu_seconds_, usage.switches - start_switches_);
}

void ThreadGovernor::learn(int used, double cpu_seconds, long switches) {
    watched_cpu_seconds_ += cpu_seconds;
    watched_switches_ += switches;
    const bool judged = watched_cpu_seconds_ >= calibration::judged_cpu_seconds;
    const bool crowded =
        static_cast<double>(watched_switches_) >= calibration::crowded_switches_per_cpu_second * watched_cpu_seconds_;
    if (judged) {
        watched_cpu_seconds_ = 0;
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
    patience_ = std::min(calibration::max_patience, patience_ * 2);
}

}  // namespace sdcpp
