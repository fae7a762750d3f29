// Limits, and the checks before and after networks run.
#pragma once

#include <cmath>
#include <cstdint>
#include <span>

#include "base/error.h"
#include "generation/samplers.h"

namespace sdcpp {

constexpr int max_pixels_side = 16384;
constexpr int max_together = 64;       // pictures sampled together
constexpr int chunks_together = 8;     // a prompt's chunks that are encoded in one batch
constexpr int64_t max_tokens = 77000;  // a prompt's

inline void require_finite(const Floats& values, const char* what) {
    for (const float value : values)
        if (!std::isfinite(value))
            fail(SDCPP_NOT_FINITE, what,
                 " contain NaN or infinity; the weights may be damaged, or a type too coarse for them: try ",
                 OptionName{"wtype", "f32"});
}

inline void require_tokens(std::span<const int32_t> tokens, int64_t vocabulary) {
    for (const int32_t token : tokens)
        if (token < 0 || token >= vocabulary)
            fail(SDCPP_INVALID_ARGUMENT, "token ", token, " is outside the text encoder's vocabulary of ", vocabulary);
}

}  // namespace sdcpp
