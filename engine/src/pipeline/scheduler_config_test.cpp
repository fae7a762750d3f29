#include "pipeline/scheduler_config.h"

#include <doctest/doctest.h>

using namespace sdcpp;

namespace {

SchedulerConfig of(const char* text, bool flow = false) { return scheduler_config(Json::parse(text), flow); }

}  // namespace

TEST_CASE("Stable Diffusion 1.5's folder: PNDM from leading timesteps, ending at the least noise") {
    const auto found = of(R"({"_class_name": "PNDMScheduler", "steps_offset": 1, "skip_prk_steps": true,
                              "set_alpha_to_one": false})");
    CHECK(found.sampler == "plms");
    CHECK(found.schedule == "leading");
    CHECK(found.steps_offset == 1);
    CHECK(found.unit_signal);
    CHECK(found.keeps_least_noise);
}

TEST_CASE("the spacing of a config counts, else its class's") {
    CHECK(of(R"({"_class_name": "EulerDiscreteScheduler"})").schedule == "discrete");
    CHECK(of(R"({"_class_name": "DDIMScheduler"})").schedule == "leading");
    const auto euler = of(R"({"_class_name": "EulerDiscreteScheduler", "timestep_spacing": "leading"})");
    CHECK(euler.sampler == "euler");
    CHECK(euler.schedule == "leading");
    CHECK(euler.unit_signal);
    CHECK(!euler.keeps_least_noise);
    const auto turbo = of(R"({"_class_name": "EulerAncestralDiscreteScheduler", "timestep_spacing": "trailing"})");
    CHECK(turbo.sampler == "euler_a");
    CHECK(turbo.schedule == "trailing");
    CHECK(!turbo.unit_signal);
    CHECK(of(R"({"_class_name": "EulerDiscreteScheduler", "use_karras_sigmas": true})").schedule == "karras");
    CHECK(of(R"({"timestep_spacing": "trailing"})").schedule == "trailing");
}

TEST_CASE("settings that are not followed are told") {
    CHECK(of(R"({"_class_name": "DPMSolverMultistepScheduler"})").ignored.empty());
    const auto other = of(R"({"_class_name": "DPMSolverMultistepScheduler", "timestep_spacing": "leading",
                              "solver_order": 3, "thresholding": true})");
    CHECK(other.schedule == "leading");
    CHECK(other.leading_past_last);
    CHECK(other.ignored == std::vector<std::string>{"solver_order", "thresholding"});
    CHECK(of(R"({"_class_name": "DPMSolverMultistepScheduler", "solver_order": 1})").sampler == "ddim");
}

TEST_CASE("levels of noise lie between those of the spacing's timesteps, for schedulers that space them so") {
    const auto euler = of(R"({"_class_name": "EulerDiscreteScheduler", "use_karras_sigmas": true,
                              "timestep_spacing": "leading", "steps_offset": 1})");
    CHECK(euler.schedule == "karras");
    CHECK(euler.range_of == "leading");
    CHECK(euler.unit_signal);
    CHECK(of(R"({"_class_name": "EulerDiscreteScheduler", "use_karras_sigmas": true})").range_of.empty());
    CHECK(of(R"({"_class_name": "DPMSolverMultistepScheduler", "use_karras_sigmas": true,
                 "timestep_spacing": "leading"})")
              .range_of.empty());
}

TEST_CASE("clipped samples are told, except where diffusers' pipeline does not clip either") {
    const Json clipped = Json::parse(R"({"_class_name": "DDIMScheduler", "clip_sample": true})");
    CHECK(scheduler_config(clipped, false).ignored == std::vector<std::string>{"clip_sample"});
    CHECK(scheduler_config(clipped, false, true).ignored.empty());
    CHECK(scheduler_config(clipped, false, true).steps_offset == 1);
    CHECK(of(R"({"_class_name": "DDIMScheduler"})").ignored == std::vector<std::string>{"clip_sample"});
    CHECK(of(R"({"_class_name": "DDIMScheduler", "clip_sample": false})").ignored.empty());
}

TEST_CASE("TCD has timesteps of its own and ends at the least noise") {
    const auto tcd = of(R"({"_class_name": "TCDScheduler"})");
    CHECK(tcd.sampler == "tcd");
    CHECK(tcd.schedule == "lcm");
    CHECK(tcd.keeps_least_noise);
    CHECK(tcd.unit_signal);
}

TEST_CASE("a flow's schedule is its family's, and what is unknown is left to it, too") {
    const auto flow = of(R"({"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 3})", true);
    CHECK(flow.sampler == "euler");
    CHECK(flow.schedule.empty());
    const auto other = of(R"({"_class_name": "ScoreSdeVeScheduler"})");
    CHECK(other.sampler.empty());
    CHECK(!other.unit_signal);
    CHECK(of("{}").sampler.empty());
}
