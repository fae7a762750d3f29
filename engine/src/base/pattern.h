// Regular expressions that take time in proportion to the text and the expression, whatever either says: the states
// that an expression may be in are followed together (Thompson 1968), where std::regex tries one way after the other.
#pragma once

#include <bitset>
#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace sdcpp {

class Pattern {
  public:
    static constexpr size_t max_length = 200, max_steps = 2000;

    // Takes the syntax that ECMAScript and Python share, without references to earlier matches: letters, `.`, `[a-z]`,
    // `[^a-z]`,
    // `\d \w \s` and their capitals, `\b \B`, `^ $`, groups, `|`, `* + ?` and `{2}`, `{2,}`, `{2,5}`, also lazy.
    // Throws std::invalid_argument for anything else, and past the limits.
    explicit Pattern(std::string_view text);

    // Whether it is found anywhere in `text`, which is taken byte by byte.
    bool found_in(std::string_view text) const;

  private:
    friend class PatternReader;
    enum class Kind { letters, fork, begin, end, boundary, no_boundary, found };
    struct Step {
        Kind kind = Kind::letters;
        std::bitset<256> letters{};
        size_t next = 0, other = 0;
    };
    std::vector<Step> steps_;
    size_t first_ = 0;
};

}  // namespace sdcpp
