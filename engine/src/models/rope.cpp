#include "models/rope.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace sdcpp {

RopeTable::RopeTable(const std::vector<int>& axes, double theta, const std::vector<int64_t>& counts,
                     const std::vector<int64_t>& first) {
    for (size_t number = 0; number < axes.size(); ++number) {
        Axis& axis = axes_.emplace_back(Axis{axes[number], first.empty() ? 0 : first[number], {}, {}});
        for (int64_t place = 0; place < counts[number]; ++place)
            for (int i = 0; i < axis.size; i += 2) {
                const double angle =
                    static_cast<double>(axis.first + place) * std::pow(theta, -static_cast<double>(i) / axis.size);
                const auto cosine = static_cast<float>(std::cos(angle)), sine = static_cast<float>(std::sin(angle));
                axis.cosines.insert(axis.cosines.end(), {cosine, cosine});
                axis.sines.insert(axis.sines.end(), {-sine, sine});
            }
    }
}

void RopeTable::append(std::vector<float>& into, std::span<const int64_t> places) const {
    for (const auto table : {&Axis::cosines, &Axis::sines})
        for (size_t number = 0; number < axes_.size(); ++number) {
            const Axis& axis = axes_[number];
            const auto begin = (axis.*table).begin() + (places[number] - axis.first) * axis.size;
            into.insert(into.end(), begin, begin + axis.size);
        }
}

bool splits_head(const std::vector<int>& axes, int64_t head, size_t count) {
    return axes.size() == count &&
           std::all_of(axes.begin(), axes.end(), [](int axis) { return axis >= 2 && axis % 2 == 0; }) &&
           std::accumulate(axes.begin(), axes.end(), 0) == head;
}

}  // namespace sdcpp
