// Types by name.
#include <doctest/doctest.h>

#include <string>
#include <utility>
#include <vector>

#include "tests/throws.h"
#include "weights/type_rules.h"

using namespace sdcpp;

TEST_CASE("the first rule that is found in a name counts, then the type for all") {
    const TypeRules rules("q8_0", "^vae=f32,attn=f16,=x=q4_K");
    CHECK(rules.of("vae.attn.q").type == GGML_TYPE_F32);
    CHECK(rules.of("body.attn.q").type == GGML_TYPE_F16);
    CHECK(rules.of("body.=x").type == GGML_TYPE_Q4_K);
    CHECK(rules.of("body.attn.q").by_rule);
    CHECK(rules.of("body.mlp").type == GGML_TYPE_Q8_0);
    CHECK_FALSE(rules.of("body.mlp").by_rule);
    CHECK(TypeRules().of("body.mlp").type == GGML_TYPE_COUNT);
}

TEST_CASE("rules and types that cannot be are refused") {
    for (const char* bad : {"attn", "=f16", "(=f16", "attn=q9", "attn=iq2_xxs", "a=f16,b"})
        CHECK_MESSAGE(throws(SDCPP_INVALID_ARGUMENT, [&] { (void)TypeRules("", bad); }), bad);
    CHECK(throws(SDCPP_INVALID_ARGUMENT, [] { (void)TypeRules("q9_9", ""); }));
    CHECK(throws(SDCPP_INVALID_ARGUMENT, [] { (void)TypeRules("", std::string(300, 'a') + "=f16"); }));
}

TEST_CASE("types that need an importance matrix are refused") {
    int refused = 0;
    for (int type = 0; type < GGML_TYPE_COUNT; ++type) {
        const auto ggml = static_cast<ggml_type>(type);
        if (!ggml_quantize_requires_imatrix(ggml)) continue;
        const std::string name = ggml_type_name(ggml);
        CHECK_MESSAGE(throws(SDCPP_INVALID_ARGUMENT, [&] { (void)TypeRules(name, ""); }), name);
        CHECK_MESSAGE(throws(SDCPP_INVALID_ARGUMENT, [&] { (void)TypeRules("", "attn=" + name); }), name);
        ++refused;
    }
    CHECK(refused > 0);
}

TEST_CASE("a comma in braces is the expression's") {
    const TypeRules rules("", "^ab{1,2}c=f32,^ab{2}=f16");
    CHECK(rules.of("abbc").type == GGML_TYPE_F32);
    CHECK(rules.of("abbd").type == GGML_TYPE_F16);
}

TEST_CASE("types are understood in the spellings of other programs") {
    for (const auto& [given, type] : std::vector<std::pair<std::string, ggml_type>>{{"Q8_0", GGML_TYPE_Q8_0},
                                                                                    {"q4_k", GGML_TYPE_Q4_K},
                                                                                    {"Q4_K", GGML_TYPE_Q4_K},
                                                                                    {"fp16", GGML_TYPE_F16},
                                                                                    {"float32", GGML_TYPE_F32},
                                                                                    {"BF16", GGML_TYPE_BF16}}) {
        CHECK(TypeRules(given, "").of("x").type == type);
        CHECK(TypeRules("", "x=" + given).of("x").type == type);
    }
}
