#include "weights/adapters/factor.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"

namespace sdcpp {
namespace {

// Four rows at a time, and of these as many columns as stay in registers or close to them.
constexpr int64_t together = 4, tile = 64;

template <int64_t Rows>
void add_tile(const float* left, const float* right, int64_t rank, int64_t columns, int64_t width, float factor,
              float* out) {
    float sums[Rows][tile] = {};
    for (int64_t k = 0; k < rank; ++k) {
        const float* line = right + k * columns;
        for (int64_t r = 0; r < Rows; ++r) {
            const float x = left[r * rank + k];
            if (width == tile)
                for (int64_t j = 0; j < tile; ++j) sums[r][j] += x * line[j];
            else
                for (int64_t j = 0; j < width; ++j) sums[r][j] += x * line[j];
        }
    }
    for (int64_t r = 0; r < Rows; ++r)
        for (int64_t j = 0; j < width; ++j) out[r * columns + j] += factor * sums[r][j];
}

}  // namespace

Factor::Factor(const TensorInfo& tensor, std::shared_ptr<const MappedFile> file)
    : name_(tensor.name), shape_(tensor.shape), file_(std::move(file)) {
    if (!dtype_is_numeric(tensor.type))
        fail(SDCPP_BAD_FILE, file_->path().filename().string(), ": ", name_, " has type ", dtype_name(tensor.type),
             ", which holds no weights");
    source_ = std::make_shared<MappedSource>(tensor, *file_);
}

int64_t Factor::count() const {
    int64_t n = 1;
    for (const int64_t side : shape_) n *= side;
    return n;
}

std::vector<float> Factor::rows(int64_t first, int64_t count) const {
    std::vector<float> out(static_cast<size_t>(count * columns()));
    if (out.empty()) return out;
    source_->rows(first * columns(), count * columns(), out.data());
    if (!std::all_of(out.begin(), out.end(), [](float value) { return std::isfinite(value); }))
        fail(SDCPP_BAD_FILE, file_->path().filename().string(), ": ", name_,
             " has values that are not finite; the file is damaged, or its training failed");
    return out;
}

void Factor::require(bool right, const std::string& expected) const {
    if (right) return;
    std::string text = "[";
    for (const int64_t side : shape_) text += (text.size() > 1 ? ", " : "") + std::to_string(side);
    fail(SDCPP_BAD_FILE, file_->path().filename().string(), ": ", name_, " has shape ", text, "], expected ", expected);
}

void add_product(const float* left, const float* right, int64_t rows, int64_t rank, int64_t columns, float factor,
                 float* out) {
    for (int64_t j = 0; j < columns; j += tile) {
        const int64_t width = std::min(tile, columns - j);
        int64_t i = 0;
        for (; i + together <= rows; i += together)
            add_tile<together>(left + i * rank, right + j, rank, columns, width, factor, out + i * columns + j);
        for (; i < rows; ++i)
            add_tile<1>(left + i * rank, right + j, rank, columns, width, factor, out + i * columns + j);
    }
}

}  // namespace sdcpp
