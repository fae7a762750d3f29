// The order in which networks give memory up under one budget.
#include "runtime/memory.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>

using namespace sdcpp;

namespace {

struct ToyUser : MemoryUser {
    uint64_t weights, workspace;
    int plans_forgotten = 0;
    ToyUser(uint64_t w, uint64_t s) : weights(w), workspace(s) {}
    uint64_t held_weights() const override { return weights; }
    uint64_t held_workspace() const override { return workspace; }
    void give_workspace() override { workspace = 0; }
    void give_weights(uint64_t bytes) override { weights -= std::min(weights, bytes); }
    void forget_plan() override { ++plans_forgotten; }
};

struct Fixture {
    std::atomic<bool> cancelled{false};
    Device device{"simulated", 1, &cancelled};
    ToyUser text{10, 1}, denoiser{80, 5}, decoder{8, 40};
    Memory memory;
    explicit Fixture(uint64_t budget) : memory(device, {Budget::Kind::networks, budget}) {
        for (ToyUser* user : {&text, &denoiser, &decoder}) memory.add(*user);
        memory.begin();
    }
    Memory::Limit limit() {
        return memory.limit([] { return uint64_t{0}; });
    }
};

}  // namespace

TEST_CASE("a user's word becomes one of the budget's cases") {
    CHECK(Budget::from_gib(std::nan(""), false).kind == Budget::Kind::automatic);
    CHECK(Budget::from_gib(0, true).kind == Budget::Kind::none);
    CHECK(Budget::from_gib(2, false).kind == Budget::Kind::networks);
    CHECK(Budget::from_gib(2, true).kind == Budget::Kind::process);
    CHECK(Budget::from_gib(-0.5, false).kind == Budget::Kind::spare);
    CHECK(Budget::from_gib(-0.5, false).bytes == uint64_t{1} << 29);
}

TEST_CASE("workspaces go before weights, and no more weights than needed") {
    Fixture f(140);
    f.memory.make_room(f.decoder, 45, f.limit());  // 141 bytes: the first workspace is enough
    CHECK(f.text.workspace == 0);
    CHECK(f.denoiser.workspace == 5);
    CHECK(f.text.weights + f.denoiser.weights == 90);
    f.memory.make_room(f.decoder, 55, f.limit());
    CHECK(f.text.workspace + f.denoiser.workspace == 0);
    CHECK(f.text.weights + f.denoiser.weights == 140 - 55);
    CHECK(f.decoder.weights == 8);
}

TEST_CASE("who is needed last gives first") {
    Fixture f(100);
    for (int picture = 0; picture < 2; ++picture)
        for (const ToyUser* user : {&f.text, &f.denoiser, &f.decoder}) f.memory.begin_turn(*user);
    f.memory.begin_turn(f.text);
    f.memory.begin_turn(f.denoiser);  // next are the decoder, then the text encoder
    f.memory.make_room(f.denoiser, 90, f.limit());
    CHECK(f.text.weights == 2);
    CHECK(f.decoder.weights == 8);
    f.memory.begin_turn(f.decoder);  // next are the text encoder, then the denoiser
    f.memory.make_room(f.decoder, 48, f.limit());
    CHECK(f.text.weights == 2);
    CHECK(f.denoiser.weights == 50);
}

TEST_CASE("who has missed its turn is not waited for") {
    Fixture f(100);
    f.memory.begin_turn(f.text);
    for (int step = 0; step < 4; ++step) {
        f.memory.begin_turn(f.denoiser);
        f.memory.begin_turn(f.decoder);
    }
    f.memory.make_room(f.decoder, 10, f.limit());  // 106 bytes: both workspaces are enough
    CHECK(f.text.weights == 10);
    f.memory.make_room(f.decoder, 19, f.limit());
    CHECK(f.text.weights == 1);
    CHECK(f.denoiser.weights == 80);
}

TEST_CASE("plans are forgotten if the limit changes, and only then") {
    Fixture f(100);
    CHECK(f.text.plans_forgotten == 1);
    f.memory.begin();
    CHECK(f.text.plans_forgotten == 1);
    f.memory.clear_others(f.text);
    CHECK(f.denoiser.weights + f.denoiser.workspace + f.decoder.weights + f.decoder.workspace == 0);
    CHECK(f.text.weights == 10);
}

TEST_CASE("an automatic budget is a limit only if not everything fits") {
    std::atomic<bool> cancelled{false};
    Device device("simulated:vram=0.001", 1, &cancelled);
    Memory memory(device, {});
    memory.begin();
    CHECK(memory.limit([] { return uint64_t{900'000}; }).plan_bytes == 0);
    const Memory::Limit limit = memory.limit([] { return uint64_t{1'000'000}; });
    CHECK(limit.plan_bytes == limit.all_bytes);
    CHECK(limit.plan_bytes < 1'000'000);
    CHECK(!memory.limited());
}
