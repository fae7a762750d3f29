#include "pipeline/scheduler_config.h"

#include <algorithm>
#include <array>
#include <string_view>

namespace sdcpp {
namespace {

// A class of diffusers and what it does when its config is silent.
struct Known {
    std::string_view name;
    const char* sampler;
    const char* spacing;
    bool scales_noise;       // runs begin with a variance of 1 in diffusers' coordinates, whatever the spacing
    bool ends_at_zero;       // "set_alpha_to_one"
    bool has_alpha = false;  // takes that key
    bool solver = false;     // spaces timesteps for one more step, the last of which is left out
};

constexpr std::array known = {
    Known{"DDIMScheduler", "ddim", "leading", true, true, true},
    Known{"PNDMScheduler", "plms", "leading", true, false, true},
    Known{"EulerDiscreteScheduler", "euler", "linspace", false, true},
    Known{"EulerAncestralDiscreteScheduler", "euler_a", "linspace", false, true},
    Known{"HeunDiscreteScheduler", "heun", "linspace", false, true},
    Known{"LMSDiscreteScheduler", "lms", "linspace", false, true},
    Known{"DPMSolverMultistepScheduler", "dpm++2m", "linspace", true, true, false, true},
    Known{"UniPCMultistepScheduler", "unipc", "linspace", true, true, false, true},
    Known{"DEISMultistepScheduler", "deis", "linspace", true, false, false, true},
    Known{"LCMScheduler", "lcm", "", true, true},
    Known{"FlowMatchEulerDiscreteScheduler", "euler", "", false, true},
};

}  // namespace

SchedulerConfig scheduler_config(const Json& config, bool flow) {
    SchedulerConfig out;
    out.name = config.string_or("_class_name", "");
    out.steps_offset = static_cast<int>(std::clamp(config.number_or("steps_offset", 0), 0.0, 1000.0));
    const auto* row = std::find_if(known.begin(), known.end(), [&](const Known& one) { return one.name == out.name; });
    const bool found = row != known.end();
    if (found) out.sampler = row->sampler;
    const bool solver = found && row->solver, dpm = out.name == "DPMSolverMultistepScheduler";
    const double order = config.number_or("solver_order", 2);
    if (solver && order == 1) out.sampler = "ddim";  // which it is then
    if (dpm && config.string_or("algorithm_type", "") == "sde-dpmsolver++") out.sampler = "dpm++2m_sde";
    if (flow) return out;
    out.leading_past_last = solver;

    const std::string spacing = config.string_or("timestep_spacing", found ? row->spacing : "");
    out.schedule = config.boolean_or("use_karras_sigmas", false)        ? "karras"
                   : config.boolean_or("use_exponential_sigmas", false) ? "exponential"
                   : out.name == "LCMScheduler"                         ? "lcm"
                   : spacing == "leading" || spacing == "trailing"      ? spacing
                   : solver                                             ? "sgm_uniform"
                                                                        : "discrete";
    if (found) {
        out.unit_signal = row->scales_noise || out.schedule == "leading";
        out.keeps_least_noise =
            !(row->has_alpha ? config.boolean_or("set_alpha_to_one", row->ends_at_zero) : row->ends_at_zero);
    }
    // Settings that change a run and are not followed.
    if (found) {
        const std::string algorithm = config.string_or("algorithm_type", "dpmsolver++");
        if (solver && order != 1 && order != 2) out.ignored.push_back("solver_order");
        if (dpm && algorithm != "dpmsolver++" && algorithm != "sde-dpmsolver++")
            out.ignored.push_back("algorithm_type");
        if (config.string_or("final_sigmas_type", "zero") != "zero") out.ignored.push_back("final_sigmas_type");
        for (const char* name : {"thresholding", "use_lu_lambdas", "use_beta_sigmas", "use_flow_sigmas"})
            if (config.boolean_or(name, false)) out.ignored.push_back(name);
    }
    return out;
}

}  // namespace sdcpp
