// Regular expressions, against std::regex if that comes to an end.
#include "base/pattern.h"

#include <doctest/doctest.h>

#include <optional>
#include <random>
#include <regex>
#include <stdexcept>

using namespace sdcpp;

TEST_CASE("patterns are found as std::regex finds them") {
    std::mt19937 random(1);
    const std::vector<std::string> pieces = {"a",   "b",   ".",    "\\.",  "(", ")", "(?:", "|",      "*",
                                             "+",   "?",   "[ab]", "[^a]", "^", "$", "{2}", "{1,2}",  "{0,}",
                                             "\\d", "\\w", "\\b",  "\\B",  "_", "1", "*?",  "[a-c1-]"};
    const std::string letters = "ab.1_c ";
    int compared = 0;
    for (int i = 0; i < 40000; ++i) {
        std::string text;
        for (size_t n = random() % 7; n-- > 0;) text += pieces[random() % pieces.size()];
        std::optional<std::regex> expected;
        try {
            expected.emplace(text);
        } catch (const std::regex_error&) {
        }
        std::optional<Pattern> made;
        try {
            made.emplace(text);
        } catch (const std::invalid_argument&) {
        }
        if (!expected || !made) continue;
        for (int n = 0; n < 5; ++n) {
            std::string name;
            for (size_t m = random() % 9; m-- > 0;) name += letters[random() % letters.size()];
            CHECK_MESSAGE(made->found_in(name) == std::regex_search(name, *expected), text, " in '", name, "'");
            ++compared;
        }
    }
    CHECK(compared > 20000);
}

TEST_CASE("what would need memory of what was found, or no end, is refused") {
    for (const char* bad : {"(",
                            ")",
                            "a)",
                            "[",
                            "[]",
                            "[b-a]",
                            "*a",
                            "a**",
                            "a{",
                            "a{x}",
                            "a{3,2}",
                            "a{999999}",
                            "\\",
                            "\\1",
                            "(?=a)",
                            "(?<n>a)",
                            "((((a{200}){200}){200}))",
                            "((((){1000}){1000}){1000}){1000}",
                            "\\q",
                            "[[:alpha:]]"})
        CHECK_THROWS_AS(Pattern{bad}, std::invalid_argument);
    CHECK_THROWS_AS(Pattern{std::string(300, 'a')}, std::invalid_argument);
    CHECK_THROWS_AS(Pattern{std::string(150, '(') + std::string(50, ')')}, std::invalid_argument);
}

TEST_CASE("no pattern takes longer than the text is long") {
    const std::string name(100000, 'a');
    for (const char* slow : {"(([a-z._0-9])*)*!", "(a|a)*b", "(a*)*b", "((a?){30})*b", "(.*)(.*)(.*)(.*)b$"})
        CHECK_FALSE(Pattern(slow).found_in(name));
}
