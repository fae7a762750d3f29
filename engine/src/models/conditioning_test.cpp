// How conditionings become a batch.
#include <doctest/doctest.h>

#include "models/conditioning.h"
#include "tests/throws.h"

using namespace sdcpp;

namespace {

Conditioning text(int64_t tokens, float value, Conditioning::Join join, int64_t width = 2) {
    Conditioning out;
    out.items.push_back(
        {Array::of("context", {1, tokens, width}, std::vector<float>(static_cast<size_t>(tokens * width), value)),
         join});
    out.items.push_back({Array::of("pooled", {1, 2}, std::vector<float>{value, value})});
    return out;
}

}  // namespace

TEST_CASE("conditionings of different lengths are padded with zeros, if they may be") {
    using Join = Conditioning::Join;
    const Conditioning a = text(2, 1, Join::pad), b = text(3, 2, Join::pad);
    CHECK(joinable(a, b));
    CHECK_FALSE(joinable(text(2, 1, Join::equal), text(3, 2, Join::equal)));
    CHECK(joinable(text(2, 1, Join::equal), text(2, 2, Join::equal)));
    CHECK_FALSE(joinable(a, text(2, 1, Join::pad, 4)));
    CHECK_FALSE(joinable(a, Conditioning{}));

    const Array all = joined({&a, &b}, "context", 4);
    CHECK(all.shape == std::vector<int64_t>{2, 4, 2});
    const std::vector<float> expected = {1, 1, 1, 1, 0, 0, 0, 0, 2, 2, 2, 2, 2, 2, 0, 0};
    CHECK(std::vector<float>(all.floats().begin(), all.floats().end()) == expected);
    CHECK(joined({&a, &b}, "pooled").shape == std::vector<int64_t>{2, 2});
    CHECK(throws(SDCPP_INVALID_ARGUMENT, [&] { (void)a.at("mask"); }));
}
