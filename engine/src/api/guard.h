// What every function of the C interface is wrapped in.
#pragma once

#include <cstring>
#include <new>
#include <string_view>

#include "base/error.h"
#include "planning/planner.h"

namespace sdcpp {

template <size_t N>
void copy_text(char (&target)[N], std::string_view text) {
    size_t size = std::min(text.size(), N - 1);
    while (size < text.size() && size > 0 && (static_cast<unsigned char>(text[size]) & 0xC0) == 0x80)
        --size;  // whole UTF-8 letters
    std::memcpy(target, text.data(), size);
    target[size] = '\0';
}

inline int report(sdcpp_error* error, sdcpp_status status, std::string_view message) {
    if (error) {
        error->status = status;
        copy_text(error->message, message);
    }
    return status;
}

template <typename Body>
int guarded(sdcpp_error* error, Body body) {
    try {
        body();
        return report(error, SDCPP_OK, "");
    } catch (const Error& problem) {
        return report(error, problem.status(), problem.what());
    } catch (const OverBudget& problem) {
        if (error) error->least_bytes = problem.least_bytes();
        return report(error, SDCPP_OVER_BUDGET, problem.what());
    } catch (const std::invalid_argument& problem) {
        return report(error, SDCPP_INVALID_ARGUMENT, problem.what());
    } catch (const std::bad_alloc&) {
        return report(error, SDCPP_OUT_OF_MEMORY, "out of memory");
    } catch (const std::exception& problem) {
        return report(error, SDCPP_INTERNAL, problem.what());
    } catch (...) {
        return report(error, SDCPP_INTERNAL, "unknown failure");
    }
}

inline void need(const void* pointer, const char* what) {
    if (!pointer) fail(SDCPP_INVALID_ARGUMENT, what, " is NULL");
}

}  // namespace sdcpp
