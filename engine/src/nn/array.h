// Arrays on the host: the inputs and results of networks.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <ggml.h>

#include "base/error.h"

namespace sdcpp {

// `shape` outermost first, `data` contiguous and row-major in `type`. The outermost side is the batch, unless the array
// is `shared` by all of a batch.
struct Array {
    static constexpr size_t max_rank = 6;

    std::string name;
    ggml_type type = GGML_TYPE_F32;
    std::vector<int64_t> shape;
    const void* data = nullptr;
    bool shared = false;
    std::shared_ptr<const void> owner = nullptr;  // owns the data; null: somebody else does

    // An array that owns its values: float, int32_t or ggml_fp16_t.
    template <typename T>
    static Array of(std::string name, std::vector<int64_t> shape, std::vector<T> values, bool shared = false) {
        constexpr ggml_type type = std::is_same_v<T, float>     ? GGML_TYPE_F32
                                   : std::is_same_v<T, int32_t> ? GGML_TYPE_I32
                                                                : GGML_TYPE_F16;
        static_assert(type != GGML_TYPE_F16 || std::is_same_v<T, ggml_fp16_t>);
        int64_t wanted = 1;
        for (const int64_t side : shape) wanted *= side;
        if (wanted != static_cast<int64_t>(values.size()))
            fail(SDCPP_INTERNAL, "the array ", name, " has ", values.size(), " values in place of ", wanted);
        const auto kept = std::make_shared<const std::vector<T>>(std::move(values));
        return {std::move(name), type, std::move(shape), kept->data(), shared, kept};
    }

    int64_t count() const {
        int64_t n = 1;
        for (const int64_t side : shape) n *= side;
        return n;
    }
    // The values of an f32 array.
    std::span<const float> floats() const { return {static_cast<const float*>(data), static_cast<size_t>(count())}; }
    // The bytes of one row along the outermost side.
    std::span<const float> row(int64_t number) const {
        const auto each = static_cast<size_t>(count() / shape.front());
        return floats().subspan(static_cast<size_t>(number) * each, each);
    }
};

}  // namespace sdcpp
