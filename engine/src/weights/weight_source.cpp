#include "weights/weight_source.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>
#include <vector>

#include "base/error.h"

namespace sdcpp {

void WeightSource::read(std::span<const std::byte> part, std::byte* out) const {
    if (const MappedFile* from = file())
        from->read(part, out);
    else if (!part.empty())
        std::memcpy(out, part.data(), part.size());
}

std::span<const std::byte> MappedSource::bytes_as(ggml_type type) const {
    return type_ == from_ggml(type) ? bytes_ : std::span<const std::byte>{};
}

// The whole blocks that the values lie in.
std::span<const std::byte> MappedSource::part(int64_t first, int64_t count) const {
    const int64_t block = dtype_block(type_), begin = first / block, end = (first + count + block - 1) / block;
    const size_t block_bytes = dtype_block_bytes(type_);
    return bytes_.subspan(static_cast<size_t>(begin) * block_bytes, static_cast<size_t>(end - begin) * block_bytes);
}

void MappedSource::rows(int64_t first, int64_t count, float* out) const {
    const int64_t block = dtype_block(type_), before = first % block;
    const std::span<const std::byte> stored = part(first, count);
    if (type_ == from_ggml(GGML_TYPE_F32)) return read(stored, reinterpret_cast<std::byte*>(out));
    const std::unique_ptr<std::byte[]> copy(new std::byte[stored.size()]);
    read(stored, copy.get());
    if (before == 0 && count % block == 0) return to_f32(type_, copy.get(), out, count);
    // rows that are not whole blocks, such as a token's of a table
    std::vector<float> values(stored.size() / dtype_block_bytes(type_) * static_cast<size_t>(block));
    to_f32(type_, copy.get(), values.data(), static_cast<int64_t>(values.size()));
    std::copy_n(values.begin() + before, count, out);
}

void MappedSource::forget(int64_t first, int64_t count) const { file_.forget(part(first, count)); }

bool MappedSource::fits_f16() const {
    return type_ != from_ggml(GGML_TYPE_F32) && type_ != from_ggml(GGML_TYPE_F64) && type_ != from_ggml(GGML_TYPE_BF16);
}

ScaledSource::ScaledSource(WeightSourcePtr base, std::shared_ptr<const ScaleGrid> grid, int64_t columns,
                           int64_t first_row)
    : base_(std::move(base)), grid_(std::move(grid)), columns_(columns), first_row_(first_row) {
    for (const float factor : grid_->factors) {
        if (!std::isfinite(factor)) fail(SDCPP_UNSUPPORTED_MODEL, "a factor of scaled weights is ", factor);
        largest_ = std::max(largest_, std::abs(factor));
        ones_ = ones_ && factor == 1;
    }
}

std::span<const std::byte> ScaledSource::bytes_as(ggml_type type) const {
    return ones_ ? base_->bytes_as(type) : std::span<const std::byte>{};
}

// Below 2^-14 f16 has a fixed step of 2^-24, which is fine for values beside far larger ones.
bool ScaledSource::fits_f16() const {
    const float largest = largest_ * (base_->type() == DType::f8_e4m3 ? 448.0f : 57344.0f);
    return base_->fits_f16() && (ones_ || (largest <= 65504.0f && largest >= 0x1p-12f));
}

void SlicedSource::rows(int64_t first, int64_t count, float* out) const {
    const int64_t together = std::max<int64_t>(1, (int64_t{1} << 16) / group_);
    std::vector<float> values;
    for (int64_t at = first; at < first + count;) {
        const int64_t number = at / length_, groups = std::min(together, (first + count - 1) / length_ - number + 1);
        values.resize(static_cast<size_t>(groups * group_));
        base_->rows(number * group_, groups * group_, values.data());
        for (const int64_t end = std::min(first + count, (number + groups) * length_); at < end; ++at)
            *out++ = values[static_cast<size_t>((at / length_ - number) * group_ + first_ + at % length_)];
    }
}

void SlicedSource::forget(int64_t first, int64_t count) const {
    const int64_t begin = first / length_, end = (first + count + length_ - 1) / length_;
    base_->forget(begin * group_, (end - begin) * group_);
}

void ScaledSource::rows(int64_t first, int64_t count, float* out) const {
    base_->rows(first, count, out);
    for (int64_t i = 0; i < count;) {
        const int64_t row = (first + i) / columns_, column = (first + i) % columns_;
        const float* factors = grid_->factors.data() + (first_row_ + row) / grid_->row_side * grid_->columns;
        const int64_t side = grid_->column_side, at = column / side;
        const int64_t end = std::min({count, i + columns_ - column, i + (at + 1) * side - column});
        for (const float factor = factors[at]; i < end; ++i) out[i] *= factor;
    }
}

}  // namespace sdcpp
