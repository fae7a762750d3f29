#include "base/names.h"

#include <algorithm>
#include <cctype>
#include <numeric>

namespace sdcpp {
namespace {

int lower(char letter) { return std::tolower(static_cast<unsigned char>(letter)); }

// Letters to change, add or drop (Levenshtein 1966); capitals count as small letters.
size_t edit_distance(const std::string& a, const std::string& b) {
    std::vector<size_t> row(b.size() + 1);
    std::iota(row.begin(), row.end(), size_t{0});
    for (size_t i = 1; i <= a.size(); ++i) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= b.size(); ++j) {
            const size_t changed = diagonal + (lower(a[i - 1]) != lower(b[j - 1]));
            diagonal = row[j];
            row[j] = std::min({changed, row[j] + 1, row[j - 1] + 1});
        }
    }
    return row[b.size()];
}

template <typename Kind>
const std::string& require(const Kind& kind, const std::string& name, const std::vector<std::string>& known) {
    const auto found = std::find(known.begin(), known.end(), name);
    if (found != known.end()) return *found;
    std::vector<std::string> near = known;
    const std::string given = name.substr(0, 40);
    std::stable_sort(near.begin(), near.end(),
                     [&](const auto& a, const auto& b) { return edit_distance(given, a) < edit_distance(given, b); });
    std::string list;
    for (const std::string& one : near) list += (list.empty() ? "" : ", ") + one;
    fail(SDCPP_INVALID_ARGUMENT, "unknown ", kind, " '", given, "'; did you mean ", near.front(),
         "? There are: ", list);
}

}  // namespace

const std::string& require_name(const char* kind, const std::string& name, const std::vector<std::string>& known) {
    return require(kind, name, known);
}

const std::string& require_name(OptionName option, const std::string& name, const std::vector<std::string>& known) {
    return require(option, name, known);
}

std::string first_few(const std::vector<std::string>& names) {
    constexpr size_t shown = 3;
    std::string out;
    for (size_t i = 0; i < std::min(shown, names.size()); ++i) out += (i ? ", " : "") + names[i];
    return out + (names.size() > shown ? " …" : "");
}

}  // namespace sdcpp
