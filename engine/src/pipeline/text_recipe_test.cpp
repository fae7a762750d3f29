// Recipes of several text encoders.
#include <doctest/doctest.h>

#include "pipeline/text_recipe.h"
#include "tests/throws.h"

using namespace sdcpp;

namespace {

Floats values(const Array& array) { return {array.floats().begin(), array.floats().end()}; }

}  // namespace

TEST_CASE("states lie side by side, and rows follow each other, filled up with zeros") {
    TextRecipe recipe;
    recipe.context = {{{.encoder = "one"}, {.encoder = "two"}}, {{.encoder = "wide"}}};
    recipe.pooled = {{.encoder = "one"}, {.encoder = "two"}};
    EncodedTexts texts;
    texts["one"] = {{{1, 2}}, {7}, 2, 1};  // two tokens of one value
    texts["two"] = {{{3, 4, 5, 6}}, {8, 9}, 2, 2};
    texts["wide"] = {{{10, 11, 12, 13}}, {}, 1, 4};
    const Conditioning out = assembled(recipe, texts);
    CHECK(out.at("context").shape == std::vector<int64_t>{1, 3, 4});
    CHECK(values(out.at("context")) == Floats{1, 3, 4, 0, 2, 5, 6, 0, 10, 11, 12, 13});
    CHECK(values(out.at("pooled")) == Floats{7, 8, 9});
    CHECK(out.find("context")->join == Conditioning::Join::equal);
    CHECK(recipe.encoders() == std::vector<std::string_view>{"one", "two", "wide"});

    texts["two"].tokens = 1;
    CHECK(throws(SDCPP_INVALID_ARGUMENT, [&] { (void)assembled(recipe, texts); }));
}

TEST_CASE("one encoder's states at several depths lie side by side, and a text may give its vector alone") {
    TextRecipe recipe;
    recipe.context = {{{.encoder = "deep", .layers_off = {0, 2}}}};
    recipe.pooled = {{.encoder = "short", .projected = false}};
    recipe.mixes_lengths = true;
    EncodedTexts texts;
    texts["deep"] = {{{1, 2}, {3, 4}}, {}, 2, 1};
    texts["short"] = {{}, {5, 6}, 77, 2};
    const Conditioning out = assembled(recipe, texts);
    CHECK(out.at("context").shape == std::vector<int64_t>{1, 2, 2});
    CHECK(values(out.at("context")) == Floats{1, 3, 2, 4});
    CHECK(values(out.at("pooled")) == Floats{5, 6});
    CHECK(out.find("context")->join == Conditioning::Join::pad);
    CHECK(recipe.encoders() == std::vector<std::string_view>{"deep", "short"});
}
