// The samplers, each a function that runs all steps. Their files say what they are.
#pragma once

#include "generation/samplers.h"

namespace sdcpp {

// euler.cpp
void euler(SamplerRun& run, Floats& x);
void euler_a(SamplerRun& run, Floats& x);
void ddim(SamplerRun& run, Floats& x);
void euler_ge(SamplerRun& run, Floats& x);
void euler_cfg_pp(SamplerRun& run, Floats& x);
void euler_a_cfg_pp(SamplerRun& run, Floats& x);
// second_order.cpp
void heun(SamplerRun& run, Floats& x);
void dpm2(SamplerRun& run, Floats& x);
void dpm2_a(SamplerRun& run, Floats& x);
void res_2s(SamplerRun& run, Floats& x);
// dpmpp.cpp
void dpmpp_2s_a(SamplerRun& run, Floats& x);
void dpmpp_2m(SamplerRun& run, Floats& x);
void dpmpp_2m_v2(SamplerRun& run, Floats& x);
void dpmpp_2m_sde(SamplerRun& run, Floats& x);
void dpmpp_2m_sde_bt(SamplerRun& run, Floats& x);
void dpmpp_3m_sde(SamplerRun& run, Floats& x);
void dpmpp_sde(SamplerRun& run, Floats& x);
// multistep.cpp
void lms(SamplerRun& run, Floats& x);
void ipndm(SamplerRun& run, Floats& x);
void ipndm_v(SamplerRun& run, Floats& x);
void plms(SamplerRun& run, Floats& x);
void deis(SamplerRun& run, Floats& x);
void res_multistep(SamplerRun& run, Floats& x);
void unipc(SamplerRun& run, Floats& x);
// stochastic.cpp
void er_sde(SamplerRun& run, Floats& x);
void lcm(SamplerRun& run, Floats& x);
void tcd(SamplerRun& run, Floats& x);

}  // namespace sdcpp
