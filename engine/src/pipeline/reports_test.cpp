// Reports as JSON can be read back with the same values.
#include "pipeline/reports.h"

#include <doctest/doctest.h>

#include "pipeline/options.h"

using namespace sdcpp;

namespace {

std::vector<PlanStage> stages() {
    std::vector<PlanStage> out;
    for (int i = 0; i < 6; ++i)
        out.push_back({"stage \"" + std::to_string(i) + "\"",
                       40u << 20,
                       8u << 20,
                       1u << 20,
                       1u << 20,
                       0,
                       0.1 / 3,
                       {20u << 20, 20u << 20},
                       i % 2 == 1});
    return out;
}

}  // namespace

TEST_CASE("a plan's report has the figures of the plan") {
    const auto planned = stages();
    PlanOptions options;
    options.budget_bytes = 120u << 20;
    const Plan plan = make_plan(planned, options);
    const Json report = Json::parse(plan_json(planned, options, plan).dump());
    CHECK(report.string_or("policy", "") == policy_name(plan.policy));
    CHECK(*report["resident_bytes"].integer() == static_cast<int64_t>(plan.resident_bytes));
    CHECK(*report["peak_bytes"].integer() == static_cast<int64_t>(plan.peak_bytes));
    CHECK(report.number_or("predicted_step_seconds", 0) == plan.predicted_step_seconds);
    CHECK(report["segments"].array()->size() == plan.segments.size());
    CHECK(report["pieces"].array()->size() == plan.pieces.size());
    CHECK(!plan.pieces.empty());
    int64_t streamed = 0;
    for (const Json& stage : *report["streamed_stage_bytes"].array()) streamed += *stage.integer();
    CHECK(streamed * plan.passes == *report["streamed_bytes_per_step"].integer());
    const Json& second = (*report["stages"].array())[1];
    CHECK(second.string_or("name", "") == planned[1].name);
    CHECK(second.number_or("seconds", 0) == planned[1].seconds);
    CHECK(second.boolean_or("same_block", false));
    CHECK(second.integers("parts") == std::vector<int>{20 << 20, 20 << 20});
    const Timeline times = timeline(planned, options, plan);
    double start = 0;
    CHECK((*(*report["segments"].array())[0]["compute_span"].array())[0].number(start));
    CHECK(start == times.segments[0].compute_start);
}

TEST_CASE("runs, memory and profiles") {
    RunReport run;
    run.stages = stages();
    run.plan = make_plan(run.stages, run.options);
    run.runs = 3;
    run.uploaded_bytes = uint64_t{1} << 40;
    run.stall_seconds = 0.25;
    const Json told = Json::parse(run_json("vae.decoder", run).dump());
    CHECK(told.string_or("network", "") == "vae.decoder");
    CHECK(*told["uploaded_bytes"].integer() == int64_t{1} << 40);
    CHECK(told.number_or("stall_seconds", 0) == 0.25);
    CHECK(!told["plan"]["stages"].array()->empty());

    DeviceMemory::Bytes peak;
    peak.by_class[static_cast<size_t>(MemoryClass::slots)] = 7;
    peak.total = 9;
    const Json held = memory_json(peak, 11);
    CHECK(*held["slots"].integer() == 7);
    CHECK(*held["peak"].integer() == 9);
    CHECK(*held["mapped"].integer() == 11);

    const Json rows = profile_json({{"unet", "out", "MUL_MAT", 2, 0.5, 1e9, 2e9}});
    CHECK((*rows.array())[0].string_or("operation", "") == "MUL_MAT");
    CHECK((*rows.array())[0].number_or("flops", 0) == 1e9);
    CHECK(profile_json({}).dump() == "[]");
}

TEST_CASE("devices and backends are listed") {
    const Json found = Json::parse(devices_json().dump());
    REQUIRE(found["devices"].array());
    bool cpu = false;
    for (const Json& device : *found["devices"].array()) cpu = cpu || device.boolean_or("is_cpu", false);
    CHECK(cpu);
    CHECK(!found["backends"].array()->empty());
}
