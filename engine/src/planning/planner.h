// The planner decides which stages of a network stay on a device and which are streamed, in which order and when:
// numbers in, a plan out. It allocates nothing on a device and uses nothing else of the engine.
#pragma once

#include <cstdint>
#include <functional>
#include <stdexcept>
#include <string>
#include <vector>

namespace sdcpp {

enum class Policy {
    automatic,  // the best of pipelined, capped and full
    full,       // merged under the whole budget, uploaded and dropped in series
    capped,  // full, but merged under a quarter of the budget if the weights pass three quarters (only while streaming)
    capped_prefetch,  // capped, the next segment's upload started with each segment; for comparison
    pipelined,        // single stages through a ring, uploads without pause, residents spread
};

// Bytes of one microbatch (one image's cond or uncond half), as stored on the device.
struct PlanStage {
    std::string name;
    uint64_t param_bytes = 0;       // weights
    uint64_t compute_bytes = 0;     // workspace, without weights and carries
    uint64_t carry_in_bytes = 0;    // values that come from before
    uint64_t carry_out_bytes = 0;   // values that later stages need
    uint64_t extra_bytes = 0;       // other inputs; already inside `compute_bytes`, counted again by full and capped
    double seconds = 0;             // compute
    std::vector<uint64_t> parts{};  // bytes of the weights that can stay or go alone; empty: all or nothing
    bool same_block = false;  // part of the previous stage's block: full and capped do not cut there, and it counts as
                              // one layer with it
};

// Bytes that stages first..last need if they run as one graph, for one microbatch.
struct UnionBytes {
    uint64_t compute = 0, carry_in = 0, carry_out = 0, extra = 0;
};

struct PlanOptions {
    uint64_t budget_bytes = 0;    // 0: none
    uint64_t reserved_bytes = 0;  // the user's budget for other things; for error messages only
    Policy policy = Policy::automatic;
    bool stream_layers = true, offload_to_cpu = true;
    double link_bytes_per_s = 12e9;
    int microbatches = 1;
    double dispatch_seconds = 0;  // to start one graph
    int64_t max_resident = -1;    // blocks, see PlanStage::same_block; -1: any number
    uint64_t max_slot_bytes = 0;  // largest single block of memory for streamed weights; 0: any size
    bool allocated_once = false;  // judge full and capped, too, by allocations that serve all segments
    std::function<UnionBytes(size_t first, size_t last)> measure = nullptr;  // null: a chain, so maxima and ends
};

struct PlannedSegment {
    size_t first = 0, last = 0;  // stages, both included
    uint64_t param_bytes = 0, compute_bytes = 0, footprint_bytes = 0;
    uint64_t streamed_bytes = 0;  // its weights that are uploaded for each run
    bool resident = true;         // all of its stages are
    int slot = -1;                // the streamed weights' slot
};

// Weights of one stage that are uploaded as one, in each pass, into the memory that streamed weights share.
struct PlannedPiece {
    size_t segment = 0, stage = 0;
    std::vector<size_t> parts{};     // the stage's parts, in order; empty: all
    uint64_t bytes = 0, offset = 0;  // the offset is within all slots, which lie one behind the other
    int64_t after = 0;  // the last segment whose weights are in the way; below 0: counted from the previous
                        // pass's end, so -1 is its last
};

struct Plan {
    Policy policy = Policy::full;
    std::vector<PlannedSegment> segments;
    std::vector<bool> resident;        // per stage: whether all of it stays
    std::vector<uint64_t> streamed;    // per stage: bytes
    std::vector<PlannedPiece> pieces;  // in the order of their uploads
    std::vector<uint64_t> slots;       // bytes of each; pipelined's only slot is a ring
    int together = 1;                  // microbatches that go through a stage before the next stage's turn
    int group = 1;                     // microbatches in one graph
    int passes = 1;                    // runs through all segments in one step; together * passes = microbatches
    uint64_t resident_bytes = 0, streamed_bytes_per_step = 0, peak_bytes = 0;
    uint64_t workspace_bytes = 0, carry_bytes = 0;
    double predicted_step_seconds = 0;  // in the long run; the first step loads the residents, too
    double limit_step_seconds = 0;      // no plan under this budget can be faster
};

// No plan stays under the budget; `least_bytes` is enough. The message names the option that sets the budget.
class OverBudget : public std::runtime_error {
  public:
    OverBudget(const std::string& message, size_t stage, uint64_t least_bytes, std::string option = "")
        : std::runtime_error(message), stage_(stage), least_bytes_(least_bytes), option_(std::move(option)) {}
    size_t stage() const { return stage_; }
    uint64_t least_bytes() const { return least_bytes_; }
    const std::string& option() const { return option_; }  // as Error::option()

  private:
    size_t stage_;
    uint64_t least_bytes_;
    std::string option_;
};

// A budget that no model reaches: a plan under it is made with sizes and times, and everything stays.
constexpr uint64_t ample_budget = uint64_t{1} << 49;

// Throws an OverBudget that names the stage which needs most, and `least_bytes` as enough.
[[noreturn]] void fail_over_budget(const std::vector<PlanStage>& stages, const PlanOptions& options,
                                   uint64_t least_bytes);

// Throws OverBudget, or std::invalid_argument for numbers that make no sense. Deterministic.
Plan make_plan(const std::vector<PlanStage>& stages, const PlanOptions& options);

// `plan` for these of its stages, in rising order: weights keep their places and residents stay, so `resident_bytes`
// and `slots` are the same.
Plan subset_plan(const Plan& plan, const std::vector<size_t>& stages);

// Seconds of a step of `plan` in the long run with these stage times and this link.
double predicted_seconds(const std::vector<PlanStage>& stages, const PlanOptions& options, const Plan& plan);

// Seconds of a step that no plan under the budget can beat.
double limit_seconds(const std::vector<PlanStage>& stages, const PlanOptions& options);

const char* policy_name(Policy policy);

// The times at which each segment of a step is uploaded and computed, once the plan runs steadily: seconds from its
// start (uploads may have begun before it).
struct SegmentTimes {
    double upload_start = 0, upload_end = 0, compute_start = 0, compute_end = 0;
};
struct PieceTimes {
    double upload_start = 0, upload_end = 0;
};
struct Timeline {
    std::vector<SegmentTimes> segments;
    std::vector<PieceTimes> pieces;
};
Timeline timeline(const std::vector<PlanStage>& stages, const PlanOptions& options, const Plan& plan);

}  // namespace sdcpp
