#include "pipeline/scheduler_config.h"

#include <algorithm>
#include <array>
#include <string_view>
#include <utility>

namespace sdcpp {
namespace {

enum Trait : unsigned {
    scales_noise = 1,  // runs begin with a variance of 1 in diffusers' coordinates, whatever the spacing
    ends_at_zero = 2,  // "set_alpha_to_one"
    has_alpha = 4,     // takes that key
    solver = 8,        // spaces timesteps for one more step, the last of which is left out
    ranged = 16,       // levels between those of the spacing's first and last timestep, else of the whole table
    clips = 32,        // "clip_sample"
};

// A class of diffusers and what it does when its config is silent.
struct Known {
    std::string_view name;
    const char* sampler;
    std::string_view spacing;  // "": timesteps of its own, those of latent consistency
    unsigned traits;

    bool has(Trait trait) const { return (traits & trait) != 0; }
};

constexpr std::array known = {
    Known{"DDIMScheduler", "ddim", "leading", scales_noise | ends_at_zero | has_alpha | clips},
    Known{"PNDMScheduler", "plms", "leading", scales_noise},
    Known{"EulerDiscreteScheduler", "euler", "linspace", ends_at_zero | ranged},
    Known{"EulerAncestralDiscreteScheduler", "euler_a", "linspace", ends_at_zero},
    Known{"HeunDiscreteScheduler", "heun", "linspace", ends_at_zero | ranged},
    Known{"LMSDiscreteScheduler", "lms", "linspace", ends_at_zero | ranged},
    Known{"DPMSolverMultistepScheduler", "dpm++2m", "linspace", scales_noise | ends_at_zero | solver},
    Known{"UniPCMultistepScheduler", "unipc", "linspace", scales_noise | ends_at_zero | solver},
    Known{"DEISMultistepScheduler", "deis", "linspace", scales_noise | solver},
    Known{"LCMScheduler", "lcm", "", scales_noise | ends_at_zero},
    Known{"TCDScheduler", "tcd", "", scales_noise},
    Known{"FlowMatchEulerDiscreteScheduler", "euler", "", ends_at_zero},
};

// Settings whose other values change a run, and the values that are followed, in words.
constexpr std::pair<const char*, std::string_view> texts[] = {
    {"final_sigmas_type", "zero"},
    {"interpolation_type", "linear"},
    {"timestep_type", "discrete"},
    {"solver_type", "midpoint bh2 logrho"},
};
constexpr std::pair<const char*, bool> switches[] = {
    {"thresholding", false},   {"use_lu_lambdas", false},   {"use_beta_sigmas", false}, {"use_flow_sigmas", false},
    {"euler_at_final", false}, {"lower_order_final", true}, {"predict_x0", true},
};

bool has_word(std::string_view words, std::string_view word) {
    for (size_t at = 0; at < words.size();) {
        const size_t end = std::min(words.find(' ', at), words.size());
        if (words.substr(at, end - at) == word) return true;
        at = end + 1;
    }
    return false;
}

}  // namespace

SchedulerConfig scheduler_config(const Json& config, bool flow, bool mended) {
    SchedulerConfig out;
    out.name = config.string_or("_class_name", "");
    out.steps_offset = mended ? 1 : static_cast<int>(std::clamp(config.number_or("steps_offset", 0), 0.0, 1000.0));
    const auto* row = std::find_if(known.begin(), known.end(), [&](const Known& one) { return one.name == out.name; });
    const bool found = row != known.end();
    if (found) out.sampler = row->sampler;
    const bool is_solver = found && row->has(solver), dpm = out.name == "DPMSolverMultistepScheduler";
    const double order = config.number_or("solver_order", 2);
    if (is_solver && order == 1) out.sampler = "ddim";  // which it is then
    if (dpm && config.string_or("algorithm_type", "") == "sde-dpmsolver++") out.sampler = "dpm++2m_sde";
    if (flow) return out;
    out.leading_past_last = is_solver;

    const std::string spacing = config.string_or("timestep_spacing", found ? row->spacing : "");
    out.schedule = config.boolean_or("use_karras_sigmas", false)        ? "karras"
                   : config.boolean_or("use_exponential_sigmas", false) ? "exponential"
                   : found && row->spacing.empty()                      ? "lcm"  // timesteps of their own
                   : spacing == "leading" || spacing == "trailing"      ? spacing
                   : is_solver                                          ? "sgm_uniform"
                                                                        : "discrete";
    if (found) {
        out.unit_signal = row->has(scales_noise) || spacing == "leading";
        out.keeps_least_noise =
            !(row->has(has_alpha) ? config.boolean_or("set_alpha_to_one", true) : row->has(ends_at_zero));
        if (row->has(ranged) && out.schedule != spacing && (spacing == "leading" || spacing == "trailing"))
            out.range_of = spacing;
        out.even_strides = out.name == "DDIMScheduler" && spacing == "trailing";
    }
    // Settings that change a run and are not followed.
    if (found) {
        const std::string algorithm = config.string_or("algorithm_type", "dpmsolver++");
        if (is_solver && order != 1 && order != 2) out.ignored.push_back("solver_order");
        if (dpm && algorithm != "dpmsolver++" && algorithm != "sde-dpmsolver++")
            out.ignored.push_back("algorithm_type");
        for (const auto& [name, followed] : texts)
            if (const std::string text = config.string_or(name, ""); !text.empty() && !has_word(followed, text))
                out.ignored.emplace_back(name);
        for (const auto& [name, followed] : switches)
            if (config.boolean_or(name, followed) != followed) out.ignored.emplace_back(name);
        for (const char* name : {"sigma_min", "sigma_max", "trained_betas"})
            if (!config[name].is_null()) out.ignored.emplace_back(name);
        if (!mended && config.boolean_or("clip_sample", row->has(clips))) out.ignored.emplace_back("clip_sample");
        if ((out.sampler == "ddim" || out.sampler == "plms") && !is_solver && spacing == "linspace")
            out.ignored.emplace_back("timestep_spacing");
    }
    return out;
}

}  // namespace sdcpp
