// The places of streamed weights in the memory that they share, and the computations that each upload waits for.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace sdcpp::planning {

// Weights that are uploaded as one; `owner` is the stage that needs them. An owner's pieces follow each other.
struct LayoutPiece {
    size_t owner = 0;
    uint64_t bytes = 0;
};

class Layout {
  public:
    // Pieces one behind the other, round and round. Each pass begins at the start of the memory, so that addresses are
    // the same in every pass. It takes as few rounds as the memory allows, of about the same length. False if an
    // owner's pieces do not fit together.
    bool ring(std::span<const LayoutPiece> pieces, uint64_t capacity_bytes);
    // Owners take `count` slots in turn, each as large as the largest of its own. False if that is too much.
    bool slots(std::span<const LayoutPiece> pieces, size_t count, uint64_t capacity_bytes);

    const std::vector<uint64_t>& slot_bytes() const { return slot_bytes_; }  // a ring is one slot
    const std::vector<uint64_t>& offsets() const { return offsets_; }
    // For each piece, the last earlier one whose place it overlaps; below 0: one of the previous pass, counted from its
    // end.
    const std::vector<int64_t>& after() const { return after_; }

  private:
    bool wind(std::span<const LayoutPiece> pieces, uint64_t capacity, size_t rounds);
    bool look_back(std::span<const LayoutPiece> pieces);

    std::vector<uint64_t> slot_bytes_;
    std::vector<uint64_t> offsets_;
    std::vector<int64_t> after_;
    std::vector<size_t> rounds_;  // the first piece of each; within a round offsets rise
};

}  // namespace sdcpp::planning
