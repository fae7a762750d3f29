// Weights' places on a device, and the weights that are loaded there once or again.
#include "runtime/weight_store.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <limits>

#include "tests/toy_network.h"

using namespace sdcpp;

namespace {

constexpr uint64_t each = Toy::weight_bytes;

struct Fixture {
    std::atomic<bool> cancelled{false}, stop{false};
    Device device{"simulated", 1, &cancelled};
    Toy toy{{1, 2, 3, 4, 5, 6}};
    WeightStore store{device, *toy.network, TypeRules()};

    // Streams these stages through places in turn.
    std::vector<WeightStore::Place> places(const std::vector<size_t>& streamed, size_t slots) const {
        std::vector<WeightStore::Place> out(6);
        for (size_t i = 0; i < streamed.size(); ++i) out[streamed[i]].offsets = {i % slots * each};
        return out;
    }
    uint64_t load_residents() {
        uint64_t bytes = 0;
        for (size_t stage = 0; stage < 6; ++stage) bytes += store.load(stage, {}, stop);
        return bytes;
    }
    float value(size_t stage) const {
        const auto* data = static_cast<const float*>(toy.network->weights().all()[stage].tensor->data);
        return *data * static_cast<float>(Toy::width);
    }
};

}  // namespace

TEST_CASE("residents are loaded once, streamed weights each time") {
    Fixture f;
    f.store.place(f.places({1, 3}, 1), each, false);
    CHECK(f.store.held_bytes() == 5 * each);
    CHECK(f.store.unloaded_bytes() == 4 * each);
    CHECK(f.load_residents() == 4 * each);
    CHECK(f.load_residents() == 0);
    CHECK(f.store.load(1, {0}, f.stop) == each);
    CHECK(f.value(1) == 2);
    CHECK(f.store.load(3, {0}, f.stop) == each);
    CHECK_MESSAGE(f.value(1) == 4, "one place for both");
    CHECK(f.value(0) == 1);
    CHECK(f.value(5) == 6);
    f.store.release();
    CHECK(f.store.held_bytes() == 0);
    CHECK(!f.store.placed());
    CHECK(f.device.memory().held() == 0);
}

TEST_CASE("another plan keeps residents that stay") {
    Fixture f;
    f.store.place(f.places({}, 1), 0, false);
    f.load_residents();
    f.store.place(f.places({4, 5}, 2), 2 * each, false);
    CHECK(f.load_residents() == 0);
    CHECK(f.store.held_bytes() == 6 * each);
    f.store.place(f.places({5}, 1), each, false);
    CHECK_MESSAGE(f.load_residents() == each, "the fourth stage's weights are resident again");
    for (size_t stage = 0; stage < 5; ++stage) CHECK(f.value(stage) == static_cast<float>(stage + 1));
}

TEST_CASE("some memory can be given back, from the last stages on, and taken again") {
    Fixture f;
    const auto all = f.places({5}, 1);
    f.store.place(all, each, false);
    f.load_residents();
    f.store.give_back(each / 2);
    CHECK_MESSAGE(f.store.held_bytes() == 5 * each, "the last resident goes");
    f.store.place(all, each, false);
    CHECK(f.load_residents() == each);
    f.store.give_back(2 * each + 1);
    CHECK_MESSAGE(f.store.held_bytes() == 3 * each, "what streamed weights share goes, and two residents");
    f.store.place(all, each, false);
    CHECK(f.load_residents() == 2 * each);
    for (size_t stage = 0; stage < 5; ++stage) CHECK(f.value(stage) == static_cast<float>(stage + 1));
    f.store.give_back(std::numeric_limits<uint64_t>::max());
    CHECK(f.store.held_bytes() == 0);
    CHECK(!f.store.placed());
}

TEST_CASE("changed values are loaded again, others stay") {
    Fixture f;
    f.store.place(f.places({1}, 1), each, false);
    f.load_residents();
    f.store.load(1, {0}, f.stop);
    CHECK(!f.store.stale());
    f.toy.sources[2]->set(7);
    f.toy.sources[1]->set(8);
    CHECK(f.store.stale());
    f.store.place(f.places({1}, 1), each, false);
    CHECK(f.load_residents() == each);
    CHECK(f.value(2) == 7);
    CHECK(!f.store.stale());
    f.store.load(1, {0}, f.stop);
    CHECK_MESSAGE(f.value(1) == 8, "streamed weights follow by themselves");
}

TEST_CASE("loading stops on request") {
    Fixture f;
    f.store.place(f.places({}, 1), 0, false);
    f.stop = true;
    CHECK_THROWS_AS(f.store.load(0, {}, f.stop), Error);
    f.stop = false;
    CHECK(f.load_residents() == 6 * each);
}

TEST_CASE("streamed weights leave nothing of others behind their rows") {
    constexpr uint64_t behind = 512, place = each + behind;
    std::atomic<bool> cancelled{false}, stop{false};
    Device device("simulated", 1, &cancelled);
    device.set_read_behind(behind);
    Toy toy({1, 2, 3});
    WeightStore store(device, *toy.network, TypeRules());
    CHECK(store.stage_bytes(0) == place);
    std::vector<WeightStore::Place> places(3);
    for (size_t stage = 0; stage < 3; ++stage) places[stage].offsets = {stage * place};
    store.place(places, 3 * place, false);
    const auto start = [&](size_t stage) {
        return static_cast<std::byte*>(toy.network->weights().all()[stage].tensor->data);
    };
    std::fill_n(start(0), 3 * place, std::byte{0xFF});  // as NaN
    store.load(1, {0}, stop);
    const auto all_are = [](const std::byte* first, uint64_t bytes, std::byte value) {
        return std::all_of(first, first + bytes, [&](std::byte one) { return one == value; });
    };
    CHECK(*reinterpret_cast<const float*>(start(1)) * static_cast<float>(Toy::width) == 2);
    CHECK(all_are(start(1) + each, behind, std::byte{0}));
    CHECK(all_are(start(0), place, std::byte{0xFF}));
    CHECK(all_are(start(2), place, std::byte{0xFF}));
}
