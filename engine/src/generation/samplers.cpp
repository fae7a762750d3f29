#include "generation/samplers.h"

#include <cmath>

#include "base/error.h"
#include "base/names.h"
#include "generation/samplers/all.h"

namespace sdcpp {
namespace {

struct Sampler {
    std::string name;
    void (*run)(SamplerRun&, Floats&);
    bool takes_eta = false;
};
const std::vector<Sampler>& samplers() {
    static const std::vector<Sampler> all = {
        {"euler", euler},
        {"euler_a", euler_a, true},
        {"heun", heun},
        {"dpm2", dpm2},
        {"dpm2_a", dpm2_a, true},
        {"dpm++2s_a", dpmpp_2s_a, true},
        {"dpm++2m", dpmpp_2m},
        {"dpm++2m_v2", dpmpp_2m_v2},
        {"dpm++2m_sde", dpmpp_2m_sde, true},
        {"dpm++2m_sde_bt", dpmpp_2m_sde_bt, true},
        {"dpm++3m_sde", dpmpp_3m_sde, true},
        {"dpm++sde", dpmpp_sde, true},
        {"lms", lms},
        {"ipndm", ipndm},
        {"ipndm_v", ipndm_v},
        {"deis", deis},
        {"unipc", unipc},
        {"res_multistep", res_multistep},
        {"res_2s", res_2s},
        {"er_sde", er_sde, true},
        {"euler_ge", euler_ge},
        {"euler_cfg_pp", euler_cfg_pp},
        {"euler_a_cfg_pp", euler_a_cfg_pp, true},
        {"ddim", ddim, true},
        {"tcd", tcd, true},
        {"lcm", lcm},
        {"plms", plms},
    };
    return all;
}

std::vector<std::string> names_of(bool with_eta) {
    std::vector<std::string> out;
    for (const Sampler& sampler : samplers())
        if (sampler.takes_eta || !with_eta) out.push_back(sampler.name);
    return out;
}

}  // namespace

const std::vector<std::string>& sampler_names() {
    static const std::vector<std::string> names = names_of(false);
    return names;
}

const std::vector<std::string>& samplers_with_eta() {
    static const std::vector<std::string> names = names_of(true);
    return names;
}

void require_falling(const std::vector<double>& sigmas) {
    if (sigmas.size() < 2) fail(SDCPP_INVALID_ARGUMENT, OptionName{"sigmas"}, " needs two numbers or more");
    for (size_t i = 0; i + 1 < sigmas.size(); ++i)
        if (!(sigmas[i] > sigmas[i + 1]) || !(sigmas[i + 1] >= 0) || !std::isfinite(sigmas[i]))
            fail(SDCPP_INVALID_ARGUMENT, OptionName{"sigmas"}, " must fall, and none be negative or NaN");
}

void run_sampler(const std::string& sampler, SamplerRun& run, Floats& x) {
    require_name(OptionName{"sampler"}, sampler, sampler_names());
    require_falling(run.sigmas);
    for (const Sampler& one : samplers())
        if (one.name == sampler) one.run(run, x);
}

}  // namespace sdcpp
