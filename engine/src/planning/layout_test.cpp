// The places of streamed weights, and the computations that each waits for.
#include "planning/layout.h"

#include <doctest/doctest.h>

using namespace sdcpp::planning;

namespace {

// No piece comes before the last one that lies in its way has been computed, in this pass or the one before.
void check_order(const std::vector<LayoutPiece>& pieces, const Layout& layout) {
    const auto count = static_cast<int64_t>(pieces.size());
    for (int64_t i = 0; i < count; ++i) {
        const auto overlaps = [&](int64_t k) {
            const auto a = static_cast<size_t>(i), b = static_cast<size_t>((k + count) % count);
            return layout.offsets()[a] < layout.offsets()[b] + pieces[b].bytes &&
                   layout.offsets()[b] < layout.offsets()[a] + pieces[a].bytes;
        };
        int64_t before = i - 1;
        while (!overlaps(before)) --before;
        CHECK(layout.after()[static_cast<size_t>(i)] == before);
    }
}

}  // namespace

TEST_CASE("a ring goes round and round within its capacity") {
    const std::vector<LayoutPiece> pieces = {{0, 40}, {1, 30}, {2, 50}, {2, 20}, {3, 60}, {4, 10}};
    for (const uint64_t capacity : {90, 100, 120, 150, 210}) {
        Layout layout;
        REQUIRE(layout.ring(pieces, capacity));
        CHECK(layout.slot_bytes().size() == 1);
        for (size_t i = 0; i < pieces.size(); ++i) CHECK(layout.offsets()[i] + pieces[i].bytes <= capacity);
        CHECK(layout.offsets().front() == 0);
        check_order(pieces, layout);
    }
    Layout layout;
    CHECK_MESSAGE(!layout.ring(pieces, 65), "the second stage's pieces do not fit together");
}

TEST_CASE("slots are as large as the largest of their owners") {
    const std::vector<LayoutPiece> pieces = {{0, 40}, {1, 30}, {2, 50}, {3, 60}};
    Layout layout;
    REQUIRE(layout.slots(pieces, 2, 110));
    CHECK(layout.slot_bytes() == std::vector<uint64_t>{50, 60});
    check_order(pieces, layout);
    CHECK(!layout.slots(pieces, 2, 109));
}
