// Sources of a weight's values. Everything that loads, uploads or converts a weight asks its source.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "io/tensor_file.h"

namespace sdcpp {

class WeightSource {
  public:
    virtual ~WeightSource() = default;

    // The type of the stored values, before anything is computed from them.
    virtual DType type() const = 0;
    virtual int64_t count() const = 0;
    // All values in ggml's layout for `type`, if they lie in memory so; empty if they have to be converted.
    virtual std::span<const std::byte> bytes_as(ggml_type type) const = 0;
    // Copies `part` of bytes_as(). A file that was cut is an error here; looking at its bytes would end the process.
    void read(std::span<const std::byte> part, std::byte* out) const;
    // Values [first, first + count) as f32: whole rows and whole blocks of type(). Called from several threads.
    virtual void rows(int64_t first, int64_t count, float* out) const = 0;
    // These values have been read and will not be read again soon: their pages may leave memory.
    virtual void forget(int64_t first, int64_t count) const = 0;
    // Whether f16 holds the values about as exactly as their type does.
    virtual bool fits_f16() const = 0;
    // The file in which the bytes of bytes_as() lie; null if they lie elsewhere.
    virtual const MappedFile* file() const = 0;
    // Rises if the values change. Values that were loaded before are stale then.
    virtual uint64_t generation() const = 0;
};

using WeightSourcePtr = std::shared_ptr<const WeightSource>;

// A tensor of an open file, or a slice of one. `file` outlives the source.
class MappedSource : public WeightSource {
  public:
    MappedSource(const TensorInfo& tensor, const MappedFile& file)
        : type_(tensor.type), count_(tensor.count()), bytes_(tensor.bytes), file_(file) {}

    DType type() const override { return type_; }
    int64_t count() const override { return count_; }
    std::span<const std::byte> bytes_as(ggml_type type) const override;
    void rows(int64_t first, int64_t count, float* out) const override;
    void forget(int64_t first, int64_t count) const override;
    bool fits_f16() const override;
    const MappedFile* file() const override { return &file_; }
    uint64_t generation() const override { return 0; }

  private:
    std::span<const std::byte> part(int64_t first, int64_t count) const;

    DType type_;
    int64_t count_;
    std::span<const std::byte> bytes_;
    const MappedFile& file_;
};

// Another source's values times factors, such as f8 tensors have that were scaled to fill f8's range.
class ScaledSource : public WeightSource {
  public:
    // A row has `columns` values. The grid counts rows from `first_row` before the first. Throws
    // SDCPP_UNSUPPORTED_MODEL unless all factors are finite.
    ScaledSource(WeightSourcePtr base, std::shared_ptr<const ScaleGrid> grid, int64_t columns, int64_t first_row);

    DType type() const override { return base_->type(); }
    int64_t count() const override { return base_->count(); }
    std::span<const std::byte> bytes_as(ggml_type type) const override;
    void rows(int64_t first, int64_t count, float* out) const override;
    void forget(int64_t first, int64_t count) const override { base_->forget(first, count); }
    bool fits_f16() const override;
    const MappedFile* file() const override { return base_->file(); }
    uint64_t generation() const override { return base_->generation(); }

  private:
    WeightSourcePtr base_;
    std::shared_ptr<const ScaleGrid> grid_;
    int64_t columns_, first_row_;
    float largest_ = 0;  // factor
    bool ones_ = true;
};

// Of each `group` values of another source, one behind the other, the `length` from `first` on.
class SlicedSource : public WeightSource {
  public:
    SlicedSource(WeightSourcePtr base, int64_t group, int64_t first, int64_t length)
        : base_(std::move(base)), group_(group), first_(first), length_(length) {}

    DType type() const override { return base_->type(); }
    int64_t count() const override { return base_->count() / group_ * length_; }
    std::span<const std::byte> bytes_as(ggml_type) const override { return {}; }
    void rows(int64_t first, int64_t count, float* out) const override;
    void forget(int64_t first, int64_t count) const override;
    bool fits_f16() const override { return base_->fits_f16(); }
    const MappedFile* file() const override { return base_->file(); }
    uint64_t generation() const override { return base_->generation(); }

  private:
    WeightSourcePtr base_;
    int64_t group_, first_, length_;
};

}  // namespace sdcpp
