// Uploads ahead of the compute: also to be run under the thread sanitizer.
#include "runtime/prefetcher.h"

#include <doctest/doctest.h>

#include "tests/toy_network.h"

using namespace sdcpp;

namespace {

constexpr size_t stages = 4;
constexpr uint64_t each = Toy::weight_bytes;

// Stage 0 stays; the others take two places in turn.
struct Fixture {
    std::atomic<bool> cancelled{false};
    Device device{"simulated", 1, &cancelled};
    Toy toy{{1, 2, 3, 4}};
    WeightStore store{device, *toy.network, TypeRules()};
    std::vector<Prefetcher::Load> loads;

    Fixture() {
        std::vector<WeightStore::Place> places(stages);
        // A pass brings stages 1, 2 and 3 to places 0, 1 and 0: each waits for the stage that was there before.
        const std::vector<int64_t> after = {-1, -2, 1};
        loads.push_back({0, 0});
        for (size_t s = 1; s < stages; ++s) {
            places[s].offsets = {(s - 1) % 2 * each};
            loads.push_back({s, s});
            loads.push_back({s, s, {0}, after[s - 1]});
        }
        store.place(places, 2 * each, false);
    }
    // Weights have the right values from wait() to done(), whatever the next loads are.
    void pass(Prefetcher& prefetcher) {
        for (size_t s = 0; s < stages; ++s) {
            prefetcher.wait(s);
            const Weight& weight = toy.network->weights().all()[s];
            const auto* data = static_cast<const float*>(weight.tensor->data);
            for (const size_t at : {size_t{0}, static_cast<size_t>(Toy::width * Toy::width) - 1})
                CHECK(data[at] * static_cast<float>(Toy::width) == static_cast<float>(s + 1));
            prefetcher.done();
        }
    }
};

}  // namespace

TEST_CASE("weights are there in time and stay until they have been used, pass after pass") {
    for (const Prefetcher::Mode mode : {Prefetcher::Mode::ahead, Prefetcher::Mode::on_demand}) {
        Fixture f;
        Prefetcher prefetcher(f.device, f.store, f.loads, stages, mode);
        for (int number = 0; number < 5; ++number) f.pass(prefetcher);
        const uint64_t bytes = prefetcher.take_counts().uploaded_bytes;
        CHECK(bytes >= each * (1 + 5 * 3));
        CHECK_MESSAGE(bytes <= each * (1 + 5 * 3 + 2), "at most both places are filled ahead");
    }
}

TEST_CASE("by pass, nothing is loaded for a pass that does not begin") {
    Fixture f;
    Prefetcher prefetcher(f.device, f.store, f.loads, stages, Prefetcher::Mode::by_pass);
    for (int number = 0; number < 5; ++number) f.pass(prefetcher);
    CHECK(prefetcher.take_counts().uploaded_bytes == each * (1 + 5 * 3));
}

TEST_CASE("a prefetcher that waits for room can be sent away") {
    Fixture f;
    Prefetcher prefetcher(f.device, f.store, f.loads, stages, Prefetcher::Mode::ahead);
    prefetcher.wait(0);
}

TEST_CASE("an exception of loading comes out of wait()") {
    for (const Prefetcher::Mode mode : {Prefetcher::Mode::ahead, Prefetcher::Mode::on_demand}) {
        Fixture f;
        f.toy.sources[2]->fails = true;
        Prefetcher prefetcher(f.device, f.store, f.loads, stages, mode);
        bool thrown = false;
        try {
            for (size_t s = 0; s < stages; ++s) {
                prefetcher.wait(s);
                prefetcher.done();
            }
        } catch (const Error& problem) {
            thrown = problem.status() == SDCPP_BAD_FILE;
        }
        CHECK(thrown);
    }
}

TEST_CASE("waiting ends when the device is cancelled") {
    Fixture f;
    Prefetcher prefetcher(f.device, f.store, f.loads, stages, Prefetcher::Mode::ahead);
    prefetcher.wait(0);
    prefetcher.wait(1);
    prefetcher.wait(2);
    f.cancelled = true;  // nothing is done, so stage 3 finds no place
    CHECK_THROWS_AS(prefetcher.wait(3), Error);
}
