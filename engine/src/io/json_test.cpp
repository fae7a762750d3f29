// Texts that the JSON reader takes or refuses.
#include <doctest/doctest.h>

#include <string>

#include "io/json.h"
#include "tests/throws.h"

using namespace sdcpp;

TEST_CASE("JSON is strict") {
    CHECK_MESSAGE(*Json::parse(R"({"a":[1,2.5,"x\u00e9\ud83d\ude00"],"b":null})")["a"].array()->at(0).integer() == 1,
                  "numbers");
    CHECK_MESSAGE(*Json::parse(R"("\ud83d\ude00")").string() == "\xF0\x9F\x98\x80",
                  "surrogate pairs become one letter");
    CHECK(Json::parse(R"([NaN, Infinity, -Infinity])").dump() == "[null, null, null]");
    for (const char* bad :
         {"", "{", "[1,]", "{\"a\"}", "nul", "1 2", "\"\\x\"", "{\"a\":1,\"a\":2}", "\"\\ud83d\\u0041\"", "-", "+1x"})
        CHECK_MESSAGE(throws(SDCPP_BAD_FILE, [&] { (void)Json::parse(bad); }), bad);
    CHECK_MESSAGE(throws(SDCPP_BAD_FILE, [] { (void)Json::parse(std::string(100000, '[')); }), "depth is bounded");
}
