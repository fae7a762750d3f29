#include <limits>

#include "planning/parts.h"

namespace sdcpp::planning {
namespace {

constexpr size_t max_exact_stages = 1000;  // beyond, the limit leaves out runs of stages

}  // namespace

// The time that no plan can beat, the larger of two. One is uploading the weights that cannot be resident with the
// workspace and a slot for the smallest part. The other is computing everything, plus the longest wait of any series of
// stages: a series waits for the weights that cannot be there when it begins and that the link cannot bring while it
// computes. (Carries are left out: merged stages may have none.)
double limit_of(const Instance& instance) {
    const PlanOptions& options = instance.options;
    const size_t count = instance.count();
    const double compute = instance.seconds(0, count - 1) * options.microbatches;
    if (options.budget_bytes == 0) return compute;
    uint64_t params = 0, workspace = 0, slot = std::numeric_limits<uint64_t>::max();
    for (const PlanStage& stage : instance.stages) {
        params += stage.param_bytes;
        workspace = std::max(workspace, stage.compute_bytes);
        for (const uint64_t part : stage.parts)
            if (part > 0) slot = std::min(slot, part);
        if (stage.parts.empty() && stage.param_bytes > 0) slot = std::min(slot, stage.param_bytes);
    }
    const uint64_t room = options.budget_bytes - std::min(options.budget_bytes, workspace);
    if (params <= room) return compute;
    const auto uploads = [&](uint64_t bytes) { return static_cast<double>(bytes) / options.link_bytes_per_s; };
    double waiting = 0;
    for (size_t first = 0; first < count && count <= max_exact_stages; ++first) {
        uint64_t needed = 0;
        double meanwhile = 0;
        for (size_t i = 0; i < count; ++i) {  // into the next step, too
            const PlanStage& stage = instance.stages[(first + i) % count];
            needed += stage.param_bytes;
            if (needed > room) waiting = std::max(waiting, uploads(needed - room) - meanwhile);
            meanwhile += stage.seconds * options.microbatches;
        }
    }
    return std::max(compute + waiting, uploads(params - std::min(params, room - std::min(room, slot))));
}

}  // namespace sdcpp::planning
