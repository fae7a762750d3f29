// The table of options: complete rows, checked values, defaults and stored values.
#include "pipeline/options.h"

#include <doctest/doctest.h>

#include <cmath>
#include <set>

#include "base/error.h"
#include "tests/throws.h"

using namespace sdcpp;

namespace {

template <typename Target>
Target stored(const Options& options, const std::function<std::string(const std::string&)>& own = nullptr) {
    Target target;
    options.store(target, own);
    return target;
}

std::string message_of(const std::function<void()>& body) {
    try {
        body();
    } catch (const Error& error) {
        return error.what();
    }
    return "";
}

}  // namespace

TEST_CASE("every option has a name of its own in its set, a place and a default that can be read") {
    std::set<std::pair<OptionSet, std::string>> names;
    for (const Option& option : option_table()) {
        CAPTURE(option.name);
        CHECK(names.emplace(option.set, option.name).second);
        CHECK(bool(option.store) == (option.set != OptionSet::face));
        CHECK(std::string(option.help).size() > 5);
        CHECK((option.kind == OptionKind::choice) == bool(option.choices));
        const std::string text = default_text(option, nullptr);
        const bool has_default = option.from == DefaultFrom::fixed || option.from == DefaultFrom::model;
        CHECK(has_default == !text.empty());
        if (has_default) CHECK_NOTHROW((void)parse_option(option, text));
    }
}

TEST_CASE("names that are not in the set are refused with near ones") {
    Options generate("generate");
    CHECK(message_of([&] { generate.set_number("stepz", 3); }).find("did you mean steps") != std::string::npos);
    CHECK(throws(SDCPP_INVALID_ARGUMENT, [&] { generate.set_text("wtype", "f32"); }));
    CHECK(throws(SDCPP_INVALID_ARGUMENT, [] { Options("render"); }));
    ModelOptions model;
    CHECK(throws(SDCPP_INVALID_ARGUMENT, [&] { generate.store(model); }));
}

TEST_CASE("values are of the option's kind and within its bounds") {
    Options generate("generate");
    for (const double bad : {0.0, 10001.0, 2.5, std::nan(""), HUGE_VAL})
        CHECK(throws(SDCPP_INVALID_ARGUMENT, [&] { generate.set_number("steps", bad); }));
    for (const char* bad : {"", "x", "3x", "0", "2.5", "-1", "99999999999999999999"})
        CHECK(throws(SDCPP_INVALID_ARGUMENT, [&] { generate.set_text("steps", bad); }));
    for (const char* bad : {"", "x", "1e9", "nan", "inf", "1,2"})
        CHECK(throws(SDCPP_INVALID_ARGUMENT, [&] { generate.set_text("cfg_scale", bad); }));
    CHECK(throws(SDCPP_INVALID_ARGUMENT, [&] { generate.set_text("sampler", "eulr"); }));
    CHECK(throws(SDCPP_INVALID_ARGUMENT, [&] { generate.set_number("sampler", 1); }));
    CHECK(throws(SDCPP_INVALID_ARGUMENT, [&] { generate.set_number("use_taesd", 2); }));
    CHECK(throws(SDCPP_INVALID_ARGUMENT, [&] { generate.set_text("use_taesd", "maybe"); }));
    CHECK(throws(SDCPP_INVALID_ARGUMENT, [&] { generate.set_text("noise", "0"); }));
    CHECK(throws(SDCPP_INVALID_ARGUMENT, [&] { generate.set_array("width", {{1}, {1}}); }));
    CHECK(throws(SDCPP_INVALID_ARGUMENT, [&] { generate.set_array("noise", {{1}, {std::nanf("")}}); }));
    CHECK(!generate.has("steps"));
    CHECK(message_of([&] { generate.set_number("steps", 0); }) == "option steps is 0; 1 to 10000 are possible");
    try {
        generate.set_number("steps", 0);
    } catch (const Error& error) {
        CHECK(error.option() == "steps");
    }
}

TEST_CASE("values arrive in the structs") {
    Options model("model");
    model.set_text("wtype", "q8_0");
    model.set_number("max_vram", -1.5);
    model.set_number("stream_layers", 0);
    model.set_text("plan_policy", "capped");
    model.set_text("link_speed", "2.5e10, 3e9");
    model.set_text("blas", "avx2");
    model.set_text("blas_library", "/a/b.so");
    model.set_text("matmul_precision", "bf16");
    const auto opened = stored<ModelOptions>(model);
    CHECK(opened.wtype == "q8_0");
    CHECK(opened.max_vram == -1.5);
    CHECK(opened.stream_layers == 0);
    CHECK(opened.offload_to_cpu == -1);
    CHECK(opened.policy == Policy::capped);
    CHECK(opened.speed.flops_per_s == 2.5e10);
    CHECK(opened.speed.link_bytes_per_s == 3e9);
    CHECK(opened.gemm.kind == "avx2");
    CHECK(opened.gemm.library == "/a/b.so");
    CHECK(opened.gemm.bf16);
    CHECK(opened.device == "auto");
    Options wrong("model");
    wrong.set_text("link_speed", "1");
    CHECK(throws(SDCPP_INVALID_ARGUMENT, [&] { (void)stored<ModelOptions>(wrong); }));

    Options generate("generate");
    generate.set_array("noise", {{4, 1, 2}, {1, 2, 3, 4, 5, 6, 7, 8}});
    generate.set_number("vae_tile_size", 32);
    generate.set_text("use_taesd", "true");
    const auto made = stored<GenerateOptions>(generate);
    CHECK(made.noise_shape == std::vector<int64_t>{4, 1, 2});
    CHECK(made.sample.start.noise[7] == 8);
    CHECK(made.decode.tile == 32);
    CHECK(made.decode.taesd);
    CHECK(made.decode.tiling == -1);

    Options plan("plan");
    plan.set_number("gpu_layers", 3);
    CHECK(stored<PlanOptions>(plan).max_resident == 3);
    CHECK(stored<PlanOptions>(plan).link_bytes_per_s == 12e9);
}

TEST_CASE("an option left out takes the model's value, else the row's") {
    const auto own = [](const std::string& name) { return std::string(name == "steps" ? "4" : ""); };
    Options generate("generate");
    CHECK(stored<GenerateOptions>(generate).sample.steps == 20);
    CHECK(stored<GenerateOptions>(generate, own).sample.steps == 4);
    CHECK(stored<GenerateOptions>(generate, own).sample.sampler == "euler_a");
    generate.set_number("steps", 7);
    CHECK(stored<GenerateOptions>(generate, own).sample.steps == 7);
}

TEST_CASE("seeds have 64 bits, and those below 0 are drawn") {
    Options generate("generate");
    for (const char* seed : {"0", "9007199254740993", "9223372036854775808", "18446744073709551615"}) {
        generate.set_text("seed", seed);
        CHECK(std::to_string(stored<GenerateOptions>(generate).sample.seed) == seed);
    }
    const auto drawn = [&] {
        std::set<uint64_t> seeds;
        for (int i = 0; i < 8; ++i) seeds.insert(stored<GenerateOptions>(generate).sample.seed);
        return seeds.size();
    };
    generate.set_number("seed", -1);
    CHECK(drawn() > 1);
    generate = Options("generate");
    CHECK(drawn() > 1);
}

TEST_CASE("the table's JSON has the facts that a face needs") {
    const Json table = option_table_json();
    CHECK(table.array()->size() == option_table().size());
    for (const Json& row : *table.array())
        for (const char* key : {"set", "name", "kind", "least", "most", "choices", "default_from", "default", "group",
                                "flags", "unit", "written", "help"})
            CHECK_MESSAGE(row.object()->contains(key), key);
}
