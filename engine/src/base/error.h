// The one way the engine reports failure: an Error with a status, thrown anywhere and turned into a C status in api/.
#pragma once

#include <cmath>
#include <sstream>
#include <stdexcept>
#include <string>

#include "sdcpp.h"

namespace sdcpp {

class Error : public std::runtime_error {
  public:
    Error(sdcpp_status status, const std::string& message) : std::runtime_error(message), status_(status) {}
    sdcpp_status status() const { return status_; }

  private:
    sdcpp_status status_;
};

// Throws an Error whose message is the parts put together.
template <typename... Parts>
[[noreturn]] void fail(sdcpp_status status, const Parts&... parts) {
    std::ostringstream text;
    (text << ... << parts);
    throw Error(status, text.str());
}

}  // namespace sdcpp
