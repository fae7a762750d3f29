// An error names the option that it is about, for faces to spell.
#include "base/error.h"

#include <doctest/doctest.h>

using namespace sdcpp;

TEST_CASE("an error keeps the first option that its message names") {
    try {
        fail(SDCPP_NOT_FINITE, "NaN; try ", OptionName{"wtype", "f32"}, " or ", OptionName{"device"});
    } catch (const Error& error) {
        CHECK(std::string(error.what()) == "NaN; try option wtype=f32 or option device");
        CHECK(error.option() == "wtype=f32");
        CHECK(error.status() == SDCPP_NOT_FINITE);
    }
    try {
        fail(SDCPP_BAD_FILE, "at ", 3);
    } catch (const Error& error) {
        CHECK(error.option().empty());
    }
}
