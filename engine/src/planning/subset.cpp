// A plan for some of the stages of another plan. Weights keep their places.
#include <limits>

#include "planning/planner.h"

namespace sdcpp {
namespace {

bool overlap(const PlannedPiece& a, const PlannedPiece& b) {
    return a.offset < b.offset + b.bytes && b.offset < a.offset + a.bytes;
}

// The last segment before piece `i` whose weights are in its way, see PlannedPiece::after.
int64_t segment_in_the_way(const Plan& plan, size_t i) {
    const size_t count = plan.pieces.size();
    for (size_t back = 1; back <= count; ++back) {
        const PlannedPiece& other = plan.pieces[(i + count - back) % count];
        if (!overlap(other, plan.pieces[i])) continue;
        return static_cast<int64_t>(other.segment) - (back <= i ? 0 : std::ssize(plan.segments));
    }
    return -std::ssize(plan.segments);  // not reached: a piece is in its own way, a pass later
}

}  // namespace

Plan subset_plan(const Plan& plan, const std::vector<size_t>& stages) {
    constexpr size_t left_out = std::numeric_limits<size_t>::max();
    std::vector<size_t> number(plan.resident.size(), left_out), segment_of(plan.segments.size(), left_out);
    for (size_t i = 0; i < stages.size(); ++i) number.at(stages[i]) = i;
    Plan out = plan;
    out.segments.clear();
    out.pieces.clear();
    out.resident.clear();
    out.streamed.clear();
    out.streamed_bytes_per_step = 0;
    for (const size_t stage : stages) {
        out.resident.push_back(plan.resident[stage]);
        out.streamed.push_back(plan.streamed[stage]);
    }
    for (size_t s = 0, next = 0; s < plan.segments.size(); ++s) {
        PlannedSegment segment = plan.segments[s];
        const size_t first = next;
        segment.streamed_bytes = 0;
        while (next < stages.size() && stages[next] <= plan.segments[s].last)
            segment.streamed_bytes += plan.streamed[stages[next++]];
        if (next == first) continue;
        segment.first = first;
        segment.last = next - 1;
        segment_of[s] = out.segments.size();
        out.segments.push_back(segment);
    }
    for (PlannedPiece piece : plan.pieces) {
        if (number[piece.stage] == left_out) continue;
        piece.stage = number[piece.stage];
        piece.segment = segment_of[piece.segment];
        out.streamed_bytes_per_step += piece.bytes * static_cast<uint64_t>(plan.passes);
        out.pieces.push_back(std::move(piece));
    }
    for (size_t i = 0; i < out.pieces.size(); ++i) out.pieces[i].after = segment_in_the_way(out, i);
    return out;
}

}  // namespace sdcpp
