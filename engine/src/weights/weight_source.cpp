#include "weights/weight_source.h"

#include <cstring>

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

std::span<const std::byte> MappedSource::part(int64_t first, int64_t count) const {
    const int64_t block = dtype_block(type_);
    const size_t block_bytes = dtype_block_bytes(type_);
    return bytes_.subspan(static_cast<size_t>(first / block) * block_bytes,
                          static_cast<size_t>((count + block - 1) / block) * block_bytes);
}

void MappedSource::rows(int64_t first, int64_t count, float* out) const {
    const std::span<const std::byte> stored = part(first, count);
    if (type_ == from_ggml(GGML_TYPE_F32)) return read(stored, reinterpret_cast<std::byte*>(out));
    const std::unique_ptr<std::byte[]> copy(new std::byte[stored.size()]);
    read(stored, copy.get());
    to_f32(type_, copy.get(), out, count);
}

void MappedSource::forget(int64_t first, int64_t count) const { file_.forget(part(first, count)); }

std::span<const std::byte> ScaledSource::bytes_as(ggml_type type) const {
    return factor_ == 1 ? base_->bytes_as(type) : std::span<const std::byte>{};
}

void ScaledSource::rows(int64_t first, int64_t count, float* out) const {
    base_->rows(first, count, out);
    for (int64_t i = 0; i < count; ++i) out[i] *= factor_;
}

}  // namespace sdcpp
