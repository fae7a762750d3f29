// Networks that run by plans under one budget.
#include "runtime/executor.h"

#include <doctest/doctest.h>

#include "tests/toy_network.h"

using namespace sdcpp;

namespace {

constexpr uint64_t each = Toy::weight_bytes;

struct Models {
    std::atomic<bool> cancelled{false};
    Device device{"simulated", 1, &cancelled};
    Memory memory;
    explicit Models(uint64_t budget) : memory(device, {Budget::Kind::networks, budget}) {
        device.set_speed({1e10, 1e9, 1e-4});
        memory.begin();
    }
    std::unique_ptr<Executor> executor(Toy& toy) {
        return std::make_unique<Executor>(device, memory, std::move(toy.network), TypeRules(), StreamingOptions{});
    }
};

float first(const Array& result) { return result.floats().front(); }

}  // namespace

TEST_CASE("streamed weights give the same as weights that stay") {
    for (const uint64_t budget : {uint64_t{0}, 10 * each, 4 * each, 2 * each}) {
        Models models(budget);
        Toy toy({2, 0.5f, 4, 2, 8, 0.25f});
        const auto net = models.executor(toy);
        for (int run = 0; run < 3; ++run) {
            const Array result = net->run({Toy::ones(2)});
            CHECK(result.shape == std::vector<int64_t>{2, Toy::width});
            CHECK(first(result) == 16);
            CHECK((budget == 0 || models.device.memory().held() <= budget));
        }
        CHECK((net->take_report().plan.streamed_bytes_per_step > 0) == (budget > 0 && budget < 6 * each));
    }
}

TEST_CASE("two networks that nearly fit give up only the bytes that are lacking") {
    Models models(10 * each);
    Toy a({2, 2, 2, 2, 2, 2}), b({3, 3, 3, 3, 3, 3});
    const auto one = models.executor(a), other = models.executor(b);
    constexpr int turns = 4;
    for (int turn = 0; turn < turns; ++turn) {
        CHECK(first(one->run({Toy::ones()})) == 64);
        CHECK(first(other->run({Toy::ones()})) == 729);
        CHECK(models.device.memory().held() <= 10 * each);
    }
    const uint64_t lacking = 3 * each;  // 2 of 12, and one for workspace and carries
    for (const auto& net : {one.get(), other.get()})
        CHECK(net->take_report().uploaded_bytes <= 6 * each + (turns - 1) * lacking);
}

TEST_CASE("a selection runs by the plan of all stages, whose residents stay") {
    Models models(4 * each);
    Toy toy({2, 0.5f, 4, 2, 8, 0.25f});
    const auto net = models.executor(toy);
    CHECK(first(net->run({Toy::ones()})) == 16);
    const RunReport whole = net->take_report();
    REQUIRE(whole.plan.streamed_bytes_per_step > 0);
    for (int run = 0; run < 3; ++run) CHECK(first(net->run({Toy::ones()}, {{0, 1, 2}, {"x"}}).front()) == 4);
    const RunReport part = net->take_report();
    CHECK(part.plan.resident_bytes == whole.plan.resident_bytes);
    CHECK(part.uploaded_bytes <= 3 * 3 * each + whole.plan.slots.front());
    CHECK(first(net->run({Toy::ones()})) == 16);
    CHECK(net->take_report().loaded_bytes <= 6 * each - whole.plan.resident_bytes + whole.plan.slots.front());
}

TEST_CASE("changed weights are loaded at the next run, and no others") {
    for (const uint64_t budget : {uint64_t{0}, 8 * each, 4 * each}) {
        Models models(budget);
        Toy toy({2, 1, 1, 1, 1, 1});
        const auto net = models.executor(toy);
        CHECK(first(net->run({Toy::ones()})) == 2);
        (void)net->take_report();
        toy.sources[0]->set(32);
        toy.sources[3]->set(2);
        CHECK(first(net->run({Toy::ones()})) == 64);
        const RunReport report = net->take_report();
        if (report.plan.pieces.empty()) CHECK(report.uploaded_bytes == 2 * each);
    }
}

TEST_CASE("a second network's stages run before the first's, as one flow, and can be taken back") {
    for (const uint64_t budget : {uint64_t{0}, 3 * each}) {
        Models models(budget);
        Toy toy;
        Declaration declaration;
        for (int i = 0; i < 2; ++i) {  // the first one: it adds hints if they are there
            toy.add(declaration, 2);
            const std::string hint = "hint." + std::to_string(i);
            declaration.stage(hint, [&] {
                return [hint](Graph& g, Values& v) {
                    if (v.contains(hint)) v["x"] = ggml_add(g.context, v.at("x"), v.at(hint));
                };
            });
        }
        toy.finish(std::move(declaration));
        const auto net = models.executor(toy);
        const Selection both{{4, 5, 0, 1, 2, 3}, {"x"}};
        CHECK(first(net->run({Toy::ones()})) == 4);
        for (int round = 0; round < 2; ++round) {
            net->extend([&](Declaration& more) {  // the second one: it leaves hints
                toy.add(more, 3, "x", "hint.0");
                toy.add(more, 5, "x", "hint.1");
            });
            (void)net->take_report();
            CHECK(first(net->run({Toy::ones()}, both).front()) == (2 + 3) * 2 + 5);
            if (budget == 0) CHECK_MESSAGE(net->take_report().loaded_bytes == 2 * each, "the first one's stay");
            CHECK_MESSAGE(first(net->run({Toy::ones()})) == 4, "the first one alone");
            CHECK(first(net->run({Toy::ones()}, both).front()) == (2 + 3) * 2 + 5);
            CHECK_THROWS(net->extend([&](Declaration& more) {
                toy.add(more, 7);
                fail(SDCPP_INTERNAL, "no more");
            }));
            CHECK(first(net->run({Toy::ones()}, both).front()) == (2 + 3) * 2 + 5);
            net->cut(4);
            CHECK(first(net->run({Toy::ones()})) == 4);
        }
    }
}

TEST_CASE("inputs of other sizes do not move weights") {
    Models models(4 * each);
    Toy toy({2, 0.5f, 4, 2, 8, 0.25f});
    const auto net = models.executor(toy);
    (void)net->run({Toy::ones(4)});
    const uint64_t streamed = net->take_report().plan.streamed_bytes_per_step;
    for (const int64_t rows : {1, 4, 2, 4}) CHECK(net->run({Toy::ones(rows)}).shape[0] == rows);
    CHECK(net->take_report().uploaded_bytes <= 5 * streamed);
}

TEST_CASE("runs put wrong compute times right, and a better plan is made of them") {
    Models models(5 * each);
    // far too slow a processor, so that any plan seems as good; a slow link, for which plans differ
    models.device.set_speed({1e4, 1e7, 1e-4});
    Toy toy(std::vector<float>(12, 1));
    const auto net = models.executor(toy);
    CHECK(net->preview({Toy::ones()}).plan.predicted_step_seconds > 100);
    for (int run = 0; run < 2; ++run) CHECK(first(net->run({Toy::ones()})) == 1);
    const RunReport guessed = net->take_report();
    CHECK(guessed.replanned);
    CHECK(first(net->run({Toy::ones()})) == 1);
    const RunReport learned = net->take_report();
    CHECK(learned.plan.predicted_step_seconds < 1);
    CHECK(learned.plan.streamed_bytes_per_step < guessed.plan.streamed_bytes_per_step);
    CHECK_FALSE(learned.replanned);
}

TEST_CASE("runs that upload enough measure the link") {
    Models models(20 * each);
    models.device.set_speed({1e10, 1e3, 1e-4});
    Toy toy(std::vector<float>(200, 1));
    const auto net = models.executor(toy);
    for (int run = 0; run < 2; ++run) CHECK(first(net->run({Toy::ones()})) == 1);
    CHECK(net->take_report().plan.streamed_bytes_per_step > calibration::telling_upload_bytes);
    CHECK(models.device.speed().link_bytes_per_s > 1e6);
}

TEST_CASE("taps give values as they were behind a stage, streamed or not") {
    for (const uint64_t budget : {uint64_t{0}, 4 * each}) {
        Models models(budget);
        Toy toy({2, 0.5f, 4, 2, 8, 0.25f});
        const auto net = models.executor(toy);
        for (int run = 0; run < 3; ++run) {
            const auto made = net->run({Toy::ones()}, {{0, 1, 2, 3, 4, 5}, {"x"}, {{"x", 0}, {"x", 4}}});
            REQUIRE(made.size() == 3);
            CHECK(first(made[0]) == 16);
            CHECK(first(made[1]) == 2);
            CHECK(first(made[2]) == 64);
        }
    }
}

TEST_CASE("parts run by the plan of the whole, also when it has been forgotten") {
    Models models(4 * each);
    Toy toy({2, 0.5f, 4, 2, 8, 0.25f});
    const auto net = models.executor(toy);
    CHECK(first(net->run({Toy::ones()})) == 16);
    const RunReport whole = net->take_report();
    net->forget_plan();
    for (int run = 0; run < 3; ++run) {
        CHECK(first(net->run({Toy::ones()}, {{0, 1}, {"x"}}).front()) == 1);
        CHECK(first(net->run({Toy::ones()}, {{2, 3, 4, 5}, {"x"}}).front()) == 16);
    }
    const RunReport parts = net->take_report();
    CHECK(parts.plan.resident_bytes == whole.plan.resident_bytes);
    CHECK(parts.uploaded_bytes <= whole.plan.resident_bytes + 4 * whole.plan.streamed_bytes_per_step);
}
