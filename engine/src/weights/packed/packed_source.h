// The source of a packed weight: its codes and factors are read from the file, its values computed row by row.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "weights/packed/packing.h"
#include "weights/weight_source.h"

namespace sdcpp {

class PackedSource : public WeightSource {
  public:
    // `tensor` has a packing; its shape may be smaller than what is stored by the padding. `factors` is the file of its
    // block factors. Both files outlive the source.
    PackedSource(const TensorInfo& tensor, const MappedFile& file, const MappedFile& factors);

    DType type() const override { return type_; }
    int64_t count() const override { return count_; }
    std::span<const std::byte> bytes_as(ggml_type) const override { return {}; }
    // Throws SDCPP_BAD_FILE if a factor is no number.
    void rows(int64_t first, int64_t count, float* out) const override;
    void forget(int64_t first, int64_t count) const override;
    bool fits_f16() const override;
    const MappedFile* file() const override { return &file_; }
    uint64_t generation() const override { return 0; }

  private:
    // `count` rows as they are stored, padding included.
    void stored_rows(int64_t first, int64_t count, float* out) const;
    std::span<const std::byte> codes_of(int64_t first_row, int64_t count) const;
    // The block factors of rows are among those in these bytes; `first` receives the first one's number.
    std::span<const std::byte> factors_of(int64_t first_row, int64_t count, int64_t& first) const;
    // The factors that factors_of() gives the bytes of.
    std::vector<float> read_factors(int64_t first_row, int64_t count, int64_t& first) const;

    // A stored row's codes' levels times the factors of their blocks. `number` is the row's, `first_factor` that of the
    // first of `factors`.
    void multiply_blocks(int64_t number, const std::vector<float>& factors, int64_t first_factor, float* row) const;

    std::string name_;
    DType type_;
    int64_t count_, columns_, first_row_;
    std::span<const std::byte> codes_;
    std::shared_ptr<const Packing> packing_;
    const MappedFile &file_, &factors_file_;
};

}  // namespace sdcpp
