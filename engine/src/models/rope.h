// Rotary positions (Su et al. 2021) along several axes: each rotates its own part of a head's values.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace sdcpp {

// The factors of apply_rope() for places along axes, from tables.
class RopeTable {
  public:
    // `axes`: how many values of a head each axis rotates; `counts`: places of each axis, from 0 on or from `first` on.
    RopeTable(const std::vector<int>& axes, double theta, const std::vector<int64_t>& counts,
              const std::vector<int64_t>& first = {});

    // Adds one token's factors: for each of a head's values its cosine, then for each its sine, negative for the first
    // of a pair. `places`: one for each axis.
    void append(std::vector<float>& into, std::span<const int64_t> places) const;

  private:
    struct Axis {
        int size;
        int64_t first;                      // place
        std::vector<float> cosines, sines;  // [places, size]
    };
    std::vector<Axis> axes_;
};

// Whether heads of `head` values can be split so: `count` axes of even sizes that add up to a head.
bool splits_head(const std::vector<int>& axes, int64_t head, size_t count = 3);

}  // namespace sdcpp
