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

TEST_CASE("many forced switches halve the threads, down to one") {
    ThreadGovernor governor(8);
    constexpr double second = 1;
    constexpr long few = 5, many = 350;
    governor.learn(8, second, few);
    CHECK(governor.allowed() == 8);
    for (const int expected : {4, 2, 1, 1}) {
        governor.learn(governor.allowed(), second, many);
        CHECK(governor.allowed() == expected);
        CHECK(ThreadGovernor::Turn(governor).threads() == expected);
    }
}

TEST_CASE("more threads are tried again after calm runs, more of them after each trouble") {
    ThreadGovernor governor(4);
    const auto calm_runs = [&] {
        int runs = 0;
        for (const int before = governor.allowed(); governor.allowed() == before && runs < 1000; ++runs)
            governor.learn(before, 1, 0);
        return runs;
    };
    governor.learn(4, 1, 350);
    CHECK(governor.allowed() == 2);
    const int first = calm_runs();
    CHECK(governor.allowed() == 4);
    governor.learn(4, 1, 350);
    CHECK(governor.allowed() == 2);
    CHECK(calm_runs() == 2 * first);
}

TEST_CASE("short runs are judged together, and one thread gives no sign of crowding") {
    ThreadGovernor governor(4);
    for (int run = 0; run < 4; ++run) {
        governor.learn(4, 0.01, 20);
        CHECK(governor.allowed() == 4);
    }
    governor.learn(4, 0.02, 20);
    CHECK(governor.allowed() == 2);
    ThreadGovernor single(4);
    single.learn(1, 1, 350);
    CHECK(single.allowed() == 4);
}
