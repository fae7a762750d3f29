#include "planning/parts.h"

namespace sdcpp::planning {

Blocks::Blocks(const Instance& fine) : fine_(fine), options_(fine.options) {
    for (size_t i = 0; i < fine.count(); ++i)
        if (i == 0 || !fine.stages[i].same_block) first_.push_back(i);
    first_.push_back(fine.count());
    for (size_t b = 0; b + 1 < first_.size(); ++b) {
        const size_t first = first_[b], last = first_[b + 1] - 1;
        const UnionBytes bytes = fine.extent(first, last);
        PlanStage& block = stages_.emplace_back();
        block.name = fine.stages[first].name;
        block.param_bytes = fine.params(first, last);
        block.compute_bytes = bytes.compute;
        block.carry_in_bytes = bytes.carry_in;
        block.carry_out_bytes = bytes.carry_out;
        block.extra_bytes = bytes.extra;
        block.seconds = fine.seconds(first, last);
    }
    if (fine.options.measure)
        options_.measure = [this](size_t first, size_t last) {
            return fine_.options.measure(first_[first], first_[last + 1] - 1);
        };
}

Plan Blocks::expanded(Plan plan) const {
    Plan out = plan;
    out.resident.clear();
    out.streamed.clear();
    out.pieces.clear();
    for (PlannedSegment& segment : out.segments) {
        segment.first = first_[segment.first];
        segment.last = first_[segment.last + 1] - 1;
    }
    for (size_t b = 0; b + 1 < first_.size(); ++b) {
        for (size_t i = first_[b]; i < first_[b + 1]; ++i) {
            out.resident.push_back(plan.resident[b]);
            out.streamed.push_back(plan.resident[b] ? 0 : fine_.stages[i].param_bytes);
        }
    }
    for (const PlannedPiece& piece : plan.pieces) {
        PlannedPiece own = piece;
        for (own.stage = first_[piece.stage]; own.stage < first_[piece.stage + 1]; ++own.stage) {
            own.bytes = fine_.stages[own.stage].param_bytes;
            if (own.bytes > 0) out.pieces.push_back(own);
            own.offset += own.bytes;
        }
    }
    return out;
}

}  // namespace sdcpp::planning
