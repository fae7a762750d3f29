// Whether something fails as it should.
#pragma once

#include <functional>

#include "base/error.h"

namespace sdcpp {

inline bool throws(sdcpp_status status, const std::function<void()>& body) {
    try {
        body();
    } catch (const Error& error) {
        return error.status() == status;
    }
    return false;
}

}  // namespace sdcpp
