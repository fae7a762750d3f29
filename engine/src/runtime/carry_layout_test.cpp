// Places of the values between stages.
#include "runtime/carry_layout.h"

#include <doctest/doctest.h>

using namespace sdcpp;

namespace {

Carry carry(uint64_t bytes, int born, int last_use) {
    Carry out;
    out.bytes = bytes;
    out.born = born;
    out.last_use = last_use;
    return out;
}

std::vector<PlannedSegment> segments(const std::vector<std::pair<size_t, size_t>>& stages) {
    std::vector<PlannedSegment> out(stages.size());
    for (size_t i = 0; i < stages.size(); ++i) {
        out[i].first = stages[i].first;
        out[i].last = stages[i].second;
    }
    return out;
}

}  // namespace

TEST_CASE("values that live at the same time do not overlap, others share their place") {
    // a chain of four stages with a skip from the first to the last
    const std::vector<Carry> carries = {carry(1000, -1, 0), carry(1000, 0, 1), carry(500, 0, 3),
                                        carry(1000, 1, 2),  carry(1000, 2, 3), carry(300, 3, 4)};
    const auto single = segments({{0, 0}, {1, 1}, {2, 2}, {3, 3}});
    for (const int groups : {1, 3}) {
        const CarryLayout layout = lay_out(carries, single, groups);
        const auto bytes = [&](size_t i) {
            return CarryLayout::aligned(carries[i].bytes) * static_cast<uint64_t>(groups);
        };
        uint64_t end = 0;
        for (size_t i = 0; i < carries.size(); ++i) {
            end = std::max(end, layout.offsets[i] + bytes(i));
            for (size_t j = 0; j < i; ++j) {
                const bool together = carries[i].born <= carries[j].last_use && carries[j].born <= carries[i].last_use;
                const bool apart = layout.offsets[i] + bytes(i) <= layout.offsets[j] ||
                                   layout.offsets[j] + bytes(j) <= layout.offsets[i];
                CHECK((!together || apart));
            }
        }
        CHECK(layout.bytes == end);
        CHECK(layout.bytes == static_cast<uint64_t>(groups) * (1024 + 1024 + 512));
    }
}

TEST_CASE("values within a segment, and values that nothing reads, take no place") {
    const std::vector<Carry> carries = {carry(1000, -1, 0), carry(4000, 0, 1), carry(8000, 1, -1), carry(1000, 1, 2)};
    CHECK(lay_out(carries, segments({{0, 1}}), 1).bytes == 2048);
    CHECK(lay_out(carries, segments({{0, 0}, {1, 1}}), 1).bytes == 1024 + 4096);
}
