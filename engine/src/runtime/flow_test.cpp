// The values between stages.
#include "runtime/flow.h"

#include <doctest/doctest.h>

#include "runtime/weight_store.h"
#include "tests/toy_network.h"

using namespace sdcpp;

namespace {

// The first stage leaves a value for the last one; the second does not see it.
struct Skipping : Toy {
    std::atomic<bool> cancelled{false};
    Device device{"simulated", 1, &cancelled};
    std::unique_ptr<WeightStore> store;
    Skipping() {
        Declaration declaration;
        add(declaration, 2, "x", "skip");
        add(declaration, 3);
        declaration.stage("sum", [] {
            return [](Graph& g, Values& v) {
                v["x"] = ggml_add(g.context, v.at("x"), ggml_add(g.context, v.at("skip"), v.at("bias")));
            };
        });
        finish(std::move(declaration));
        store = std::make_unique<WeightStore>(device, *network, TypeRules());
    }
    Flow flow(const std::vector<std::string>& results, int64_t batch) {
        const Array bias = Array::of("bias", {width}, std::vector<float>(width, 1.0f), true);
        return Flow(*network, device.kernels(), {{0, 1, 2}, results}, {ones(), bias}, batch);
    }
};

}  // namespace

TEST_CASE("carries live from the stage that makes them to the last that reads them") {
    Skipping toy;
    const Flow flow = toy.flow({"x"}, 2);
    const Carry& x = flow.carries()[flow.input_carry(0)];
    const Carry& bias = flow.carries()[flow.input_carry(1)];
    CHECK(x.born == -1);
    CHECK(x.last_use == 1);
    CHECK(x.bytes == 2 * Toy::width * sizeof(float));
    CHECK(bias.last_use == 2);
    CHECK_MESSAGE(bias.bytes == Toy::width * sizeof(float), "what a batch shares does not grow with it");
    const Carry& result = flow.carries()[flow.results().front()];
    CHECK(result.born == 2);
    CHECK(result.last_use == 3);
    size_t skips = 0;
    for (const Carry& carry : flow.carries()) skips += carry.born == 0 && carry.last_use == 2 ? 1 : 0;
    CHECK(skips == 1);
}

TEST_CASE("a value that is a result lives to the end") {
    Skipping toy;
    const Flow flow = toy.flow({"x", "skip"}, 1);
    CHECK(flow.carries()[flow.results()[1]].born == 0);
    CHECK(flow.carries()[flow.results()[1]].last_use == 3);
}

TEST_CASE("the memory of stages counts the values that come and go") {
    Skipping toy;
    const Flow flow = toy.flow({"x"}, 1);
    const uint64_t row = Toy::width * sizeof(float);
    const UnionBytes middle = flow.extent(1, 1, toy.device.buffer_type());
    CHECK(middle.carry_in == 3 * row);  // x, the bias and the skip, which only passes
    CHECK(middle.carry_out == row);
    const UnionBytes all = flow.extent(0, 2, toy.device.buffer_type());
    CHECK(all.carry_in == 2 * row);
    CHECK(all.carry_out == row);
    CHECK(all.compute > 0);
    CHECK(flow.flops(1) == doctest::Approx(2.0 * Toy::width * Toy::width));
    CHECK(flow.flops(2) == doctest::Approx(2.0 * Toy::width));
}

TEST_CASE("a tap keeps a value as it is behind a stage, though later ones change it") {
    Skipping toy;
    const Array bias = Array::of("bias", {Toy::width}, std::vector<float>(Toy::width, 1.0f), true);
    const Flow flow(*toy.network, toy.device.kernels(), {{0, 1, 2}, {"x"}, {{"x", 0}, {"x", 1}}}, {Toy::ones(), bias},
                    1);
    REQUIRE(flow.results().size() == 3);
    for (size_t tap : {size_t{1}, size_t{2}}) {
        CHECK(flow.carries()[flow.results()[tap]].born == (tap == 1 ? -1 : 1));  // the first stage leaves x
        CHECK(flow.carries()[flow.results()[tap]].last_use == 3);
    }
}
