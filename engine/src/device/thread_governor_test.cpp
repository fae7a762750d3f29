// How the cores are shared: also to be run under the thread sanitizer.
#include "device/thread_governor.h"

#include <doctest/doctest.h>

#include <atomic>
#include <thread>
#include <vector>

using namespace sdcpp;

TEST_CASE("computations of a process share the cores while they run") {
    ThreadGovernor one(8), other(8);
    const ThreadGovernor::Turn first(one);
    CHECK(first.threads() == 8);
    {
        const ThreadGovernor::Turn second(other);
        CHECK(second.threads() == 4);
    }
    const ThreadGovernor::Turn third(other);
    CHECK(third.threads() == 4);
}

TEST_CASE("many models at once get their share, and never none") {
    std::atomic<int> wrong{0};
    {
        std::vector<std::jthread> models;
        for (int i = 0; i < 8; ++i)
            models.emplace_back([&] {
                ThreadGovernor governor(4);
                for (int run = 0; run < 200; ++run) {
                    const ThreadGovernor::Turn turn(governor);
                    if (turn.threads() < 1 || turn.threads() > 4) ++wrong;
                }
            });
    }
    CHECK(wrong == 0);
    ThreadGovernor governor(4);
    CHECK_MESSAGE(ThreadGovernor::Turn(governor).threads() == 4, "all have given their share back");
}
