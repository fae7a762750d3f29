#include "base/stop.h"

#include <doctest/doctest.h>

#include <thread>

using namespace sdcpp;

TEST_CASE("a flag stops its own thread, while it is set and in scope") {
    volatile int32_t outer = 0, inner = 0;
    stop_point();
    {
        const StopFlag first(&outer);
        stop_point();
        {
            const StopFlag second(&inner);
            inner = 1;
            CHECK_THROWS_AS(stop_point(), Error);
            bool elsewhere = true;
            std::thread([&] { elsewhere = StopFlag::is_set(); }).join();
            CHECK(!elsewhere);
        }
        stop_point();
        outer = 1;
        CHECK_THROWS_AS(stop_point(), Error);
    }
    stop_point();
}
