#include "device/cores.h"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <set>
#include <string>
#include <thread>

#ifdef __linux__
#include <sched.h>
#endif

#include "device/control_groups.h"

namespace sdcpp {
namespace {

int all_processors() { return std::max(1, static_cast<int>(std::thread::hardware_concurrency())); }

#ifdef __linux__

// Cores' worth of time that control groups give: quota over period, rounded up. A very large number if there is no
// quota.
int granted_cores() {
    constexpr int no_quota = 1 << 20;
    double least = no_quota;
    for (const std::string& folder : control_groups("cpu")) {
        double quota = 0, period = 0;
        std::ifstream both(folder + "cpu.max"), first(folder + "cpu.cfs_quota_us"),
            second(folder + "cpu.cfs_period_us");
        if ((both >> quota >> period || (first >> quota && second >> period)) && quota > 0 && period > 0)
            least = std::min(least, quota / period);
    }
    return std::max(1, static_cast<int>(std::ceil(least)));
}

// Processors, and how many cores they are parts of.
struct Allowed {
    int processors, cores;
};

Allowed allowed() {
    cpu_set_t set;
    CPU_ZERO(&set);
    if (sched_getaffinity(0, sizeof set, &set) != 0) return {all_processors(), all_processors()};
    const int processors = std::max(1, CPU_COUNT(&set));
    std::set<std::string> cores;  // processors that share a core name the same siblings
    for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
        if (!CPU_ISSET(cpu, &set)) continue;
        std::ifstream in("/sys/devices/system/cpu/cpu" + std::to_string(cpu) + "/topology/thread_siblings_list");
        std::string siblings;
        if (!std::getline(in, siblings)) return {processors, processors};
        cores.insert(siblings);
    }
    return {processors, std::max(1, static_cast<int>(cores.size()))};
}

#endif

}  // namespace

int physical_cores() {
#ifdef __linux__
    return std::min(allowed().cores, granted_cores());
#else
    return all_processors();
#endif
}

int usable_threads(int wanted) {
    if (wanted <= 0) return physical_cores();
#ifdef __linux__
    return std::min(wanted, std::min(allowed().processors, granted_cores()));
#else
    return std::min(wanted, all_processors());
#endif
}

}  // namespace sdcpp
