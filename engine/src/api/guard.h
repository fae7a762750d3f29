// The guard around every function of the C interface.
#pragma once

#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <new>
#include <string_view>

#include "base/error.h"
#include "io/json.h"
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

inline int report(sdcpp_error* error, sdcpp_status status, std::string_view message, std::string_view option = "") {
    if (error) {
        error->status = status;
        copy_text(error->message, message);
        copy_text(error->option, option);
    }
    return status;
}

template <typename Body>
int guarded(sdcpp_error* error, Body body) {
    prepare_for_exceptions();
    try {
        body();
        return report(error, SDCPP_OK, "");
    } catch (const Error& problem) {
        return report(error, problem.status(), problem.what(), problem.option());
    } catch (const OverBudget& problem) {
        if (error) error->least_bytes = problem.least_bytes();
        return report(error, SDCPP_OVER_BUDGET, problem.what(), problem.option());
    } catch (const std::invalid_argument& problem) {
        return report(error, SDCPP_INVALID_ARGUMENT, problem.what());
    } catch (const std::bad_alloc&) {
        return report(error, SDCPP_OUT_OF_MEMORY, "out of memory");
    } catch (
        const std::filesystem::filesystem_error& problem) {  // a name that is too long, a folder without permission
        return report(error, SDCPP_BAD_FILE, problem.what());
    } catch (const std::exception& problem) {
        return report(error, SDCPP_INTERNAL, problem.what());
    } catch (...) {
        return report(error, SDCPP_INTERNAL, "unknown failure");
    }
}

// Writes what `make` returns as a text that sdcpp_text_free frees.
template <typename Make>
void give_json(char** json, Make make) {
    if (!json) fail(SDCPP_INVALID_ARGUMENT, "json is NULL");
    const std::string text = make().dump();
    auto* copy = static_cast<char*>(std::malloc(text.size() + 1));
    if (!copy) throw std::bad_alloc();
    std::memcpy(copy, text.c_str(), text.size() + 1);
    *json = copy;
}

inline void need(const void* pointer, const char* what) {
    if (!pointer) fail(SDCPP_INVALID_ARGUMENT, what, " is NULL");
}

}  // namespace sdcpp
