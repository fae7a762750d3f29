// The C interface of the planner.
#include "api/plan.h"

#include <memory>

#include "api/guard.h"

using namespace sdcpp;

namespace sdcpp {

Policy policy_from(const char* name) {
    const std::string_view wanted = name ? name : "auto";
    for (const Policy policy :
         {Policy::automatic, Policy::pipelined, Policy::capped, Policy::full, Policy::capped_prefetch})
        if (wanted == policy_name(policy)) return policy;
    fail(SDCPP_INVALID_ARGUMENT, "unknown policy '", wanted,
         "'; there are auto, pipelined, capped, full and, for comparison, capped+prefetch");
}

std::unique_ptr<sdcpp_plan> plan_handle(RunReport report) {
    auto out = std::make_unique<sdcpp_plan>();
    out->budget_bytes = report.options.budget_bytes;
    out->link_bytes_per_s = report.options.link_bytes_per_s;
    out->times = timeline(report.stages, report.options, report.plan);
    out->stages = std::move(report.stages);
    out->plan = std::move(report.plan);
    out->measured = std::move(report.segment_seconds);
    return out;
}

}  // namespace sdcpp

void sdcpp_plan_params_default(sdcpp_plan_params* params) {
    if (params) *params = {0, "auto", 1, 1, 12e9, 1, 0, -1};
}

int sdcpp_plan_make(const sdcpp_stage* stages, size_t count, const sdcpp_plan_params* params, sdcpp_plan** out,
                    sdcpp_error* error) {
    return guarded(error, [&] {
        need(params, "params");
        need(out, "out");
        if (count) need(stages, "stages");
        auto made = std::make_unique<sdcpp_plan>();
        for (size_t i = 0; i < count; ++i) {
            const sdcpp_stage& s = stages[i];
            made->stages.push_back({s.name ? s.name : "",
                                    s.param_bytes,
                                    s.compute_bytes,
                                    s.carry_in_bytes,
                                    s.carry_out_bytes,
                                    s.extra_bytes,
                                    s.seconds,
                                    {},
                                    s.same_block != 0});
            if (s.part_count) need(s.parts, "a stage's parts");
            made->stages.back().parts.assign(s.parts, s.parts + s.part_count);
        }
        PlanOptions options;
        options.budget_bytes = params->budget_bytes;
        options.policy = policy_from(params->policy);
        options.stream_layers = params->stream_layers != 0;
        options.offload_to_cpu = params->offload_to_cpu != 0;
        options.link_bytes_per_s = params->link_bytes_per_s;
        options.microbatches = params->microbatches;
        options.dispatch_seconds = params->dispatch_seconds;
        options.most_resident = params->gpu_layers;
        made->plan = make_plan(made->stages, options);
        made->times = timeline(made->stages, options, made->plan);
        made->budget_bytes = options.budget_bytes;
        made->link_bytes_per_s = options.link_bytes_per_s;
        *out = made.release();
    });
}

void sdcpp_plan_free(sdcpp_plan* plan) { delete plan; }

int sdcpp_plan_get_summary(const sdcpp_plan* plan, sdcpp_plan_summary* out, sdcpp_error* error) {
    return guarded(error, [&] {
        need(plan, "plan");
        need(out, "out");
        const Plan& p = plan->plan;
        *out = {};
        copy_text(out->policy, policy_name(p.policy));
        out->stage_count = plan->stages.size();
        out->segment_count = p.segments.size();
        out->slot_count = p.slots.size();
        out->piece_count = p.pieces.size();
        out->together = p.together;
        out->group = p.group;
        out->passes = p.passes;
        std::copy(p.slots.begin(), p.slots.end(), out->slot_bytes);
        out->resident_bytes = p.resident_bytes;
        out->streamed_bytes_per_step = p.streamed_bytes_per_step;
        out->peak_bytes = p.peak_bytes;
        out->workspace_bytes = p.workspace_bytes;
        out->carry_bytes = p.carry_bytes;
        out->budget_bytes = plan->budget_bytes;
        out->link_bytes_per_s = plan->link_bytes_per_s;
        out->predicted_step_seconds = p.predicted_step_seconds;
        out->limit_step_seconds = p.limit_step_seconds;
    });
}

int sdcpp_plan_get_segment(const sdcpp_plan* plan, size_t index, sdcpp_segment* out, sdcpp_error* error) {
    return guarded(error, [&] {
        need(plan, "plan");
        need(out, "out");
        if (index >= plan->plan.segments.size()) fail(SDCPP_INVALID_ARGUMENT, "no segment number ", index);
        const PlannedSegment& s = plan->plan.segments[index];
        const SegmentTimes& t = plan->times.segments[index];
        *out = {s.first,
                s.last,
                s.param_bytes,
                s.compute_bytes,
                s.footprint_bytes,
                s.streamed_bytes,
                s.resident,
                s.slot,
                t.upload_start,
                t.upload_end,
                t.compute_start,
                t.compute_end,
                plan->measured.empty() ? -1.0 : plan->measured[index]};
    });
}

int sdcpp_plan_get_stage(const sdcpp_plan* plan, size_t index, sdcpp_stage* out, int32_t* resident,
                         uint64_t* streamed_bytes, sdcpp_error* error) {
    return guarded(error, [&] {
        need(plan, "plan");
        need(out, "out");
        need(resident, "resident");
        need(streamed_bytes, "streamed_bytes");
        if (index >= plan->stages.size()) fail(SDCPP_INVALID_ARGUMENT, "no stage number ", index);
        const PlanStage& s = plan->stages[index];
        *out = {s.name.c_str(), s.param_bytes, s.compute_bytes, s.carry_in_bytes, s.carry_out_bytes,
                s.extra_bytes,  s.seconds,     s.parts.data(),  s.parts.size(),   s.same_block ? 1 : 0};
        *streamed_bytes = plan->plan.streamed[index];
        *resident = plan->plan.resident[index] ? 1 : 0;
    });
}

int sdcpp_plan_get_piece(const sdcpp_plan* plan, size_t index, sdcpp_piece* out, sdcpp_error* error) {
    return guarded(error, [&] {
        need(plan, "plan");
        need(out, "out");
        if (index >= plan->plan.pieces.size()) fail(SDCPP_INVALID_ARGUMENT, "no piece number ", index);
        const PlannedPiece& p = plan->plan.pieces[index];
        const PieceTimes& t = plan->times.pieces[index];
        *out = {p.segment, p.stage, p.bytes, p.offset, t.upload_start, t.upload_end};
    });
}
