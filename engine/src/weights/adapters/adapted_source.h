// The source of a weight that an adapter changes.
#pragma once

#include <mutex>
#include <vector>

#include "weights/adapters/adapter.h"

namespace sdcpp {

// Another source's values, changed by an adapter. Values are computed whenever they are asked for, so nothing is kept.
class AdaptedSource : public WeightSource {
  public:
    // A row has `columns` values. The adapter's layer has `first_row` rows before the weight's first. `generation` as
    // in WeightSource.
    AdaptedSource(WeightSourcePtr below, AdapterPtr adapter, float weight, int64_t columns, int64_t first_row,
                  uint64_t generation)
        : below_(std::move(below)),
          adapter_(std::move(adapter)),
          weight_(weight),
          columns_(columns),
          first_row_(first_row),
          generation_(generation) {}

    DType type() const override { return below_->type(); }
    int64_t count() const override { return below_->count(); }
    std::span<const std::byte> bytes_as(ggml_type) const override { return {}; }
    void rows(int64_t first, int64_t count, float* out) const override;
    void forget(int64_t first, int64_t count) const override { below_->forget(first, count); }
    bool fits_f16() const override { return below_->fits_f16(); }
    const MappedFile* file() const override { return below_->file(); }
    uint64_t generation() const override { return generation_; }

  private:
    // Whole rows [first, last) as they are below.
    std::vector<float> below(int64_t first, int64_t last) const;
    const std::vector<double>& norms() const;

    WeightSourcePtr below_;
    AdapterPtr adapter_;
    float weight_;
    int64_t columns_, first_row_;
    uint64_t generation_;
    mutable std::once_flag once_;
    mutable std::vector<double> norms_;
};

}  // namespace sdcpp
