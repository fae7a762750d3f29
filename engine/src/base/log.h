// The engine's one logger: messages go to the callback set through the C ABI, or nowhere.
#pragma once

#include <string>

#include "sdcpp.h"

namespace sdcpp {

void set_log_callback(sdcpp_log_callback callback, void* user_data);
void log(sdcpp_log_level level, const std::string& message);

}  // namespace sdcpp
