// Tensors of adapter files, as f32.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "weights/weight_source.h"

namespace sdcpp {

// A tensor of an adapter's file. Its values are read when they are needed, so that an open file takes no memory.
class Factor {
  public:
    Factor() = default;
    Factor(const TensorInfo& tensor, std::shared_ptr<const MappedFile> file);

    explicit operator bool() const { return source_ != nullptr; }
    const std::string& name() const { return name_; }
    const std::vector<int64_t>& shape() const { return shape_; }
    int64_t rows() const { return shape_.empty() ? 1 : shape_.front(); }
    int64_t columns() const { return rows() > 0 ? count() / rows() : 0; }
    int64_t count() const;

    // All values, or those of some rows. Throws SDCPP_BAD_FILE if one is not finite, or if the file was cut.
    std::vector<float> values() const { return rows(0, rows()); }
    std::vector<float> rows(int64_t first, int64_t count) const;
    // Throws SDCPP_BAD_FILE with the expected shape unless `right`.
    void require(bool right, const std::string& expected) const;

  private:
    std::string name_;
    std::vector<int64_t> shape_;
    std::shared_ptr<const MappedFile> file_;
    std::shared_ptr<const WeightSource> source_;
};

// out [rows, columns] += factor * left [rows, rank] * right [rank, columns]. Each sum runs over the rank in order, so
// a value depends neither on the number of rows nor on the machine's threads.
void add_product(const float* left, const float* right, int64_t rows, int64_t rank, int64_t columns, float factor,
                 float* out);

}  // namespace sdcpp
