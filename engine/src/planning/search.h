// The search behind the policy pipelined: how much of each stage is streamed, for one way to take microbatches
// together.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "planning/layout.h"
#include "planning/parts.h"
#include "planning/simulation.h"

namespace sdcpp::planning {

// How microbatches are taken together; `room` is left for weights.
struct Grouping {
    int together = 1, group = 1;
    uint64_t workspace = 0, carry = 0, room = 0;
};

// How much of each stage is streamed: a level of it, 0 for nothing.
struct Choice {
    std::vector<uint8_t> levels;
    uint8_t slots = 1;      // 1: a ring
    double seconds = 0;     // a pass's
    uint64_t streamed = 0;  // bytes of a pass

    bool better_than(const Choice& other) const {
        if (seconds < other.seconds * (1 - 1e-6)) return true;
        return seconds <= other.seconds * (1 + 1e-6) && streamed < other.streamed;
    }
};

class Search {
  public:
    explicit Search(const Instance& instance);

    // The best choice found for `grouping`; nothing if none fits. Ends early at `good_seconds`, and when `effort`
    // events have been simulated.
    std::optional<Choice> best(const Grouping& grouping, double good_seconds, int64_t effort);
    // The choice with more weights resident, as long as that does not make it slower.
    Choice with_more_resident(const Grouping& grouping, Choice choice);

    uint64_t streamed_of(const Choice& choice, size_t stage) const {
        return levels_[stage][choice.levels[stage]].bytes;
    }
    // Puts pieces and slots into `plan`; returns for each piece which one is in its way, as Layout::after().
    std::vector<int64_t> lay_out(const Grouping& grouping, const Choice& choice, Plan& plan);

  private:
    // An amount of a stage that may be streamed.
    struct Level {
        uint64_t bytes = 0;
        std::vector<std::vector<size_t>> parts{};  // each piece's
        std::vector<uint64_t> pieces{};            // bytes of each
    };
    Level level_of(const PlanStage& stage, uint64_t max_bytes) const;

    bool place(const Choice& choice);
    bool judge(Choice& choice);
    void offer(Choice choice);
    void offer_patterns(uint64_t resident_bytes);
    void try_all();
    void improve(Choice choice);
    uint8_t level_for(size_t stage, double resident_bytes) const;
    Choice all_streamed() const;

    const Instance& in_;
    const size_t n_;
    std::vector<std::vector<Level>> levels_;  // each stage's, in the order of their bytes; the last is the whole stage
    std::vector<size_t> weighty_;             // stages that have weights
    uint64_t all_bytes_ = 0, largest_ = 0;
    size_t max_resident_ = 0;
    Grouping grouping_;
    double good_seconds_ = 0;
    int64_t effort_ = 0;
    std::optional<Choice> best_;
    std::vector<Choice> starts_;
    // the present choice's
    std::vector<LayoutPiece> pieces_;
    Layout layout_;
    std::vector<Work> works_;
    std::vector<Upload> uploads_;
    std::vector<size_t> work_of_;
    Simulation simulation_;
};

}  // namespace sdcpp::planning
