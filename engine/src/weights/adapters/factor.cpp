#include "weights/adapters/factor.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/error.h"

namespace sdcpp {
namespace {

// Rows at a time, and columns of each, whose sums stay in registers.
constexpr int64_t together = 4, tile = 16;
using Line [[gnu::vector_size(tile * sizeof(float))]] = float;

// Compiled for wide vectors, too; which are used shows when the program starts.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(__SANITIZE_ADDRESS__) && \
    !defined(__SANITIZE_THREAD__)
#define SDCPP_WIDE_VECTORS __attribute__((target_clones("default", "avx2", "avx512f"), noinline))
#else
#define SDCPP_WIDE_VECTORS
#endif

// Sums of `together` rows over a whole tile of columns.
SDCPP_WIDE_VECTORS void sum_tile(const float* left, const float* right, int64_t rank, float* out) {
    Line sums[together] = {};
    for (int64_t k = 0; k < rank; ++k) {
        Line line;
        std::memcpy(&line, right + k * tile, sizeof line);
        sums[0] += left[k] * line;
        sums[1] += left[rank + k] * line;
        sums[2] += left[2 * rank + k] * line;
        sums[3] += left[3 * rank + k] * line;
    }
    std::memcpy(out, sums, sizeof sums);
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

// The columns of a tile are copied side by side, since a cache holds lines that lie far apart badly. What lacks at the
// edges is filled up with zeros, so every value comes from the same loop.
void add_product(const float* left, const float* right, int64_t rows, int64_t rank, int64_t columns, float factor,
                 float* out) {
    float sums[together * tile];
    std::vector<float> last(static_cast<size_t>(together * rank)), lines(static_cast<size_t>(rank * tile));
    const int64_t more = rows % together;
    std::copy_n(left + (rows - more) * rank, more * rank, last.begin());
    for (int64_t j = 0; j < columns; j += tile) {
        const int64_t width = std::min(tile, columns - j);
        for (int64_t k = 0; k < rank; ++k) std::copy_n(right + k * columns + j, width, lines.begin() + k * tile);
        for (int64_t i = 0; i < rows; i += together) {
            const int64_t count = std::min(together, rows - i);
            sum_tile(count < together ? last.data() : left + i * rank, lines.data(), rank, sums);
            for (int64_t r = 0; r < count; ++r) {
                float* to = out + (i + r) * columns + j;
                if (width == tile)
                    for (int64_t c = 0; c < tile; ++c) to[c] += factor * sums[r * tile + c];
                else
                    for (int64_t c = 0; c < width; ++c) to[c] += factor * sums[r * tile + c];
            }
        }
    }
}

}  // namespace sdcpp
