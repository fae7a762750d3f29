#include "base/log.h"

#include <mutex>

namespace sdcpp {
namespace {
std::mutex mutex;
sdcpp_log_callback log_callback = nullptr;
void* log_user_data = nullptr;
}  // namespace

void set_log_callback(sdcpp_log_callback callback, void* user_data) {
    const std::lock_guard lock(mutex);
    log_callback = callback;
    log_user_data = user_data;
}

void log(sdcpp_log_level level, const std::string& message) {
    const std::lock_guard lock(mutex);
    if (log_callback) log_callback(level, message.c_str(), log_user_data);
}

}  // namespace sdcpp
