// The scheduler of a diffusers folder, as this engine's sampler and schedule.
#pragma once

#include <string>
#include <vector>

#include "io/json.h"

namespace sdcpp {

struct SchedulerConfig {
    std::string name;               // the class's; "" if the config does not say
    std::string sampler, schedule;  // "" if nothing here is the same
    int steps_offset = 0;
    bool leading_past_last = false;  // NoiseTable's
    // For runs with this sampler and this schedule: they begin with a variance of sigma^2 + 1; they end at the least
    // level of noise that the model knows rather than at 0, with latents scaled to a variance of 1.
    bool unit_signal = false, keeps_least_noise = false;
    std::string range_of;  // NoiseTable's
    // A step of the sampler goes this share of all timesteps on, divided by the number of steps and rounded down, also
    // if the next one begins elsewhere: DDIM's way with timesteps that steps do not divide.
    bool even_strides = false;
    std::vector<std::string> ignored{};  // its settings that change a run and are not followed here
};

// From scheduler_config.json. `flow`: the family's levels of noise, which the schedule then is left to. `mended`:
// diffusers' pipeline for the family takes an offset of 1 and no clipping, whatever the config says.
SchedulerConfig scheduler_config(const Json& config, bool flow, bool mended = false);

}  // namespace sdcpp
