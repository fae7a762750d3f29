// The C interface of the planner.
#include "api/guard.h"
#include "api/handles.h"
#include "pipeline/reports.h"

using namespace sdcpp;

int sdcpp_plan(const sdcpp_stage* stages, size_t count, const sdcpp_options* options, char** json, sdcpp_error* error) {
    return guarded(error, [&] {
        if (count) need(stages, "stages");
        std::vector<PlanStage> planned;
        for (size_t i = 0; i < count; ++i) {
            const sdcpp_stage& s = stages[i];
            planned.push_back({s.name ? s.name : "",
                               s.param_bytes,
                               s.compute_bytes,
                               s.carry_in_bytes,
                               s.carry_out_bytes,
                               s.extra_bytes,
                               s.seconds,
                               {},
                               s.same_block != 0});
            if (s.part_count) need(s.parts, "a stage's parts");
            planned.back().parts.assign(s.parts, s.parts + s.part_count);
        }
        const auto wanted = stored<PlanOptions>(options, OptionSet::plan);
        give_json(json, [&] { return plan_json(planned, wanted, make_plan(planned, wanted)); });
    });
}
