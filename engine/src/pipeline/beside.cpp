#include "pipeline/beside.h"

#include <cmath>
#include <string>
#include <system_error>

#include "base/error.h"

namespace sdcpp {

void require_count(size_t count, std::string_view what) {
    constexpr size_t most = 16;
    if (count > most)
        fail(SDCPP_INVALID_ARGUMENT, count, " ", what, " are too many; ", most, " are possible at a time");
}

void require_choice(const BesideChoice& choice) {
    const std::string name = choice.path.filename().string();
    if (!std::isfinite(choice.strength))
        fail(SDCPP_INVALID_ARGUMENT, "the strength of ", name, " is not a finite number");
    if (!(choice.start >= 0 && choice.start <= choice.end && choice.end <= 1))
        fail(SDCPP_INVALID_ARGUMENT, "start and end of ", name, " are ", choice.start, " and ", choice.end,
             "; they are shares of the steps, 0 to 1, the start first");
}

bool counts(const BesideChoice& choice, size_t step, size_t steps) {
    const auto n = static_cast<double>(steps);
    return choice.strength != 0 && static_cast<double>(step) / n >= choice.start &&
           static_cast<double>(step + 1) / n <= choice.end;
}

std::filesystem::file_time_type written_at(const std::filesystem::path& path) {
    std::error_code problem;
    return std::filesystem::last_write_time(path, problem);
}

}  // namespace sdcpp
