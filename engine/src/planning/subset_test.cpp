// Plans for some of a plan's stages.
#include <doctest/doctest.h>

#include "planning/planner.h"

using namespace sdcpp;

TEST_CASE("a plan for some stages keeps places, and nothing overwrites weights that are still needed") {
    std::vector<PlanStage> stages;
    for (int i = 0; i < 9; ++i) {
        PlanStage stage;
        stage.name = std::to_string(i);
        stage.param_bytes = 100 + 10 * static_cast<uint64_t>(i);
        stage.compute_bytes = 50;
        stage.seconds = 1e-3;
        stages.push_back(stage);
    }
    PlanOptions options;
    options.budget_bytes = 600;
    options.link_bytes_per_s = 1e5;
    for (const Policy policy : {Policy::pipelined, Policy::full}) {
        options.policy = policy;
        const Plan plan = make_plan(stages, options);
        REQUIRE(!plan.pieces.empty());
        for (const std::vector<size_t>& kept :
             {std::vector<size_t>{0, 1, 2, 3}, {0, 2, 4, 6, 8}, {8}, {0, 1, 2, 3, 4, 5, 6, 7, 8}}) {
            const Plan part = subset_plan(plan, kept);
            CHECK(part.resident.size() == kept.size());
            CHECK(part.segments.front().first == 0);
            CHECK(part.segments.back().last == kept.size() - 1);
            uint64_t streamed = 0;
            for (size_t i = 0; i < kept.size(); ++i) {
                CHECK(part.resident[i] == plan.resident[kept[i]]);
                streamed += part.streamed[i];
            }
            CHECK(part.streamed_bytes_per_step == streamed);
            const auto count = static_cast<int64_t>(part.pieces.size()), segments = std::ssize(part.segments);
            for (int64_t i = 0; i < count; ++i) {
                const PlannedPiece& piece = part.pieces[static_cast<size_t>(i)];
                CHECK(part.segments[piece.segment].first <= piece.stage);
                CHECK(piece.stage <= part.segments[piece.segment].last);
                CHECK(piece.after < static_cast<int64_t>(piece.segment));
                for (int64_t k = i - 1; k >= i - count; --k) {  // earlier pieces in the same place are no longer needed
                    const PlannedPiece& other = part.pieces[static_cast<size_t>((k + count) % count)];
                    const bool overlap =
                        piece.offset < other.offset + other.bytes && other.offset < piece.offset + piece.bytes;
                    const int64_t segment = static_cast<int64_t>(other.segment) - (k < 0 ? segments : 0);
                    CHECK((!overlap || segment <= piece.after));
                }
            }
        }
    }
}
