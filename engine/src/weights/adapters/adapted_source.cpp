#include "weights/adapters/adapted_source.h"

#include <algorithm>

namespace sdcpp {
namespace {

constexpr int64_t slice = int64_t{1} << 20;  // values of a piece when all rows are looked at

}  // namespace

std::vector<float> AdaptedSource::below(int64_t first, int64_t last) const {
    std::vector<float> values(static_cast<size_t>((last - first) * columns_));
    below_->rows(first * columns_, (last - first) * columns_, values.data());
    return values;
}

const std::vector<double>& AdaptedSource::norms() const {
    std::call_once(once_, [&] {
        const int64_t all = count() / columns_, group = adapter_->group();
        const int64_t step = std::max(group, slice / columns_ / group * group);
        std::vector<double> sums;
        for (int64_t row = 0; row < all; row += step) {
            const int64_t end = std::min(all, row + step);
            std::vector<float> values = below(row, end);
            adapter_->add_norms(first_row_ + row, end - row, values.data(), sums);
        }
        norms_ = std::move(sums);
    });
    return norms_;
}

// A weight's rows need not be a layer's: those of a convolution's kernels are shorter.
void AdaptedSource::rows(int64_t first, int64_t count, float* out) const {
    static const std::vector<double> none;
    const std::vector<double>& figures = adapter_->needs_norms() ? norms() : none;
    const int64_t group = adapter_->group() * columns_;
    const int64_t begin = first / group * group,
                  end = std::min(this->count(), (first + count + group - 1) / group * group);
    if (begin == first && end == first + count) {
        below_->rows(first, count, out);
        adapter_->apply(weight_, first_row_ + first / columns_, count / columns_, figures, out);
        return;
    }
    std::vector<float> values = below(begin / columns_, end / columns_);
    adapter_->apply(weight_, first_row_ + begin / columns_, (end - begin) / columns_, figures, values.data());
    std::copy_n(values.begin() + (first - begin), count, out);
}

}  // namespace sdcpp
