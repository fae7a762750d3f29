// The one way the engine reports failure: an Error with a status, thrown anywhere and turned into a C status in api/.
#pragma once

#include <cmath>
#include <exception>
#include <sstream>
#include <stdexcept>
#include <string>
#include <string_view>

#include "sdcpp.h"

namespace sdcpp {

// An option that a message names, and a value for it if `value` is not empty. The message reads "option wtype=f32"; the
// Error keeps the name, so that Python and the command line can put their own spelling there.
struct OptionName {
    std::string_view name, value = "";

    // "name" or "name=value".
    std::string text() const {
        std::string out(name);
        if (!value.empty()) out.append(1, '=').append(value);
        return out;
    }
};

inline std::ostream& operator<<(std::ostream& out, const OptionName& option) {
    return out << "option " << option.text();
}

class Error : public std::runtime_error {
  public:
    Error(sdcpp_status status, const std::string& message, std::string option = "")
        : std::runtime_error(message), status_(status), option_(std::move(option)) {}
    sdcpp_status status() const { return status_; }
    // The first option that the message names, as "name" or "name=value"; empty if it names none.
    const std::string& option() const { return option_; }

  private:
    sdcpp_status status_;
    std::string option_;
};

// Throws an Error whose message is the parts put together; a part may be an OptionName.
template <typename... Parts>
[[noreturn]] void fail(sdcpp_status status, const Parts&... parts) {
    std::ostringstream text;
    std::string option;
    const auto add = [&](const auto& part) {
        text << part;
        if constexpr (std::is_same_v<std::decay_t<decltype(part)>, OptionName>)
            if (option.empty()) option = part.text();
    };
    (add(parts), ...);
    throw Error(status, text.str(), option);
}

// Called at the start of a thread's work. A thread's first exception takes memory for the notes of it. Without that
// memory, the C library ends the process; an exception about short memory would find none.
inline void prepare_for_exceptions() noexcept {
    [[maybe_unused]] volatile const int taken = std::uncaught_exceptions();
}

}  // namespace sdcpp
