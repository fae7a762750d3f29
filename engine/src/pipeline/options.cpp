#include "pipeline/options.h"

#include <charconv>
#include <cmath>
#include <random>
#include <sstream>

#include "base/error.h"
#include "base/names.h"
#include "generation/rng.h"
#include "generation/samplers.h"
#include "generation/schedule.h"
#include "pipeline/checks.h"

namespace sdcpp {
namespace {

const std::vector<std::string>& policies() {
    static const std::vector<std::string> names = {"auto", "pipelined", "capped", "full"};
    return names;
}
const std::vector<std::string>& compared_policies() {
    static const std::vector<std::string> names = {"auto", "pipelined", "capped", "full", "capped+prefetch"};
    return names;
}
const std::vector<std::string>& gemm_kinds() {
    static const std::vector<std::string> names = {"avx2", "avx512", "openblas"};
    return names;
}
const std::vector<std::string>& precisions() {
    static const std::vector<std::string> names = {"f32", "bf16"};
    return names;
}

Policy policy_named(const std::string& name) {
    for (const Policy policy :
         {Policy::automatic, Policy::pipelined, Policy::capped, Policy::full, Policy::capped_prefetch})
        if (name == policy_name(policy)) return policy;
    fail(SDCPP_INTERNAL, "policy '", name, "' is in a list of choices and nowhere else");
}

template <typename Field>
void assign(Field& field, const OptionValue& value) {
    if constexpr (std::is_same_v<Field, std::string>) {
        field = std::get<std::string>(value);
    } else if constexpr (std::is_same_v<Field, std::vector<double>>) {
        field = std::get<std::vector<double>>(value);
    } else if constexpr (std::is_same_v<Field, Policy>) {
        field = policy_named(std::get<std::string>(value));
    } else if (const bool* yes = std::get_if<bool>(&value)) {
        field = static_cast<Field>(*yes);
    } else if (const int64_t* whole = std::get_if<int64_t>(&value)) {
        field = static_cast<Field>(*whole);
    } else if (const uint64_t* large = std::get_if<uint64_t>(&value)) {
        field = static_cast<Field>(*large);
    } else {
        field = static_cast<Field>(std::get<double>(value));
    }
}

// Stores into a member of the set's struct, or into a member of a member.
template <typename Target, typename Field>
Target target_of(Field Target::*);

template <auto Member>
void into(void* target, const OptionValue& value) {
    using Target = decltype(target_of(Member));
    assign(static_cast<Target*>(target)->*Member, value);
}
template <auto Outer, auto Member>
void within(void* target, const OptionValue& value) {
    using Target = decltype(target_of(Outer));
    assign((static_cast<Target*>(target)->*Outer).*Member, value);
}

template <auto Member>
constexpr auto sampled = within<&GenerateOptions::sample, Member>;
template <auto Member>
void guided_by(void* target, const OptionValue& value) {
    assign(static_cast<GenerateOptions*>(target)->sample.guidance_by.*Member, value);
}
template <auto Member>
void cache_with(void* target, const OptionValue& value) {
    assign(static_cast<GenerateOptions*>(target)->sample.cache.*Member, value);
}
template <auto Member>
void soft_with(void* target, const OptionValue& value) {
    assign(static_cast<GenerateOptions*>(target)->sample.soft_inpainting.*Member, value);
}
template <auto Member>
constexpr auto decoded = within<&GenerateOptions::decode, Member>;

// Latents of one picture or of a batch.
template <auto Member, auto Shape>
void store_latents(void* target, const OptionValue& value) {
    const auto& array = std::get<OptionArray>(value);
    auto& options = *static_cast<GenerateOptions*>(target);
    options.sample.start.*Member = array.data;
    options.*Shape = array.shape;
}

void store_extra(void* target, const OptionValue& value) {
    static_cast<GenerateOptions*>(target)->sample.extra = std::get<OptionArray>(value).data;
}

void store_references(void* target, const OptionValue& value) {
    static_cast<GenerateOptions*>(target)->sample.references = std::get<OptionArray>(value).data;
}

void store_reference_sides(void* target, const OptionValue& value) {
    std::vector<int64_t>& sides = static_cast<GenerateOptions*>(target)->sample.reference_sides;
    sides.clear();
    for (const double side : std::get<std::vector<double>>(value)) {
        if (side != std::floor(side))
            fail(SDCPP_INVALID_ARGUMENT, OptionName{"reference_sides"}, " must be whole numbers, not ", side);
        sides.push_back(static_cast<int64_t>(side));
    }
}

void store_mask(void* target, const OptionValue& value) {
    const auto& array = std::get<OptionArray>(value);
    auto& options = *static_cast<GenerateOptions*>(target);
    options.sample.mask = array.data;
    options.mask_shape = array.shape;
}

const std::vector<std::string>& mask_fills() {
    static const std::vector<std::string> names = {"original", "fill", "noise", "nothing"};
    return names;
}

const std::vector<std::string>& hires_upscalers() {
    static const std::vector<std::string> names = {"latent",
                                                   "latent_nearest",
                                                   "latent_nearest_exact",
                                                   "latent_antialiased",
                                                   "latent_bicubic",
                                                   "latent_bicubic_antialiased",
                                                   "lanczos",
                                                   "nearest",
                                                   "model"};
    return names;
}

void store_seeds(void* target, const OptionValue& value) {
    std::istringstream words(std::get<std::string>(value));
    std::vector<uint64_t>& seeds = static_cast<GenerateOptions*>(target)->sample.seeds;
    for (std::string word; std::getline(words, word, ',');) {
        uint64_t seed = 0;
        const auto read = std::from_chars(word.data(), word.data() + word.size(), seed);
        if (read.ec != std::errc() || read.ptr != word.data() + word.size())
            fail(SDCPP_INVALID_ARGUMENT, OptionName{"seeds"}, " must be whole numbers from 0, not '",
                 word.substr(0, 60), "'");
        seeds.push_back(seed);
    }
}

void store_skip_layers(void* target, const OptionValue& value) {
    std::vector<int>& layers = static_cast<GenerateOptions*>(target)->sample.skip_layers;
    layers.clear();
    for (const double number : std::get<std::vector<double>>(value)) {
        if (number != std::floor(number))
            fail(SDCPP_INVALID_ARGUMENT, OptionName{"skip_layers"}, " must be whole numbers, not ", number);
        layers.push_back(static_cast<int>(number));
    }
}

void store_strength(void* target, const OptionValue& value) {
    assign(static_cast<GenerateOptions*>(target)->sample.start.strength, value);
}

void store_link_speed(void* target, const OptionValue& value) {
    const auto& numbers = std::get<std::vector<double>>(value);
    if (numbers.size() != 2)
        fail(SDCPP_INVALID_ARGUMENT, OptionName{"link_speed"}, " is two numbers: FLOP/s and bytes per second");
    auto& speed = static_cast<ModelOptions*>(target)->speed;
    speed.flops_per_s = numbers[0];
    speed.link_bytes_per_s = numbers[1];
}

void store_precision(void* target, const OptionValue& value) {
    static_cast<ModelOptions*>(target)->gemm.bf16 = std::get<std::string>(value) == "bf16";
}

constexpr double max_gib = 1e6, max_blocks = 1e6;
constexpr double max_seed = 18446744073709551615.0, min_seed = -9223372036854775808.0;

}  // namespace

const std::vector<Option>& option_table() {
    using Kind = OptionKind;
    using From = DefaultFrom;
    constexpr OptionSet model = OptionSet::model, generate = OptionSet::generate, plan = OptionSet::plan,
                        face = OptionSet::face;
    static const std::vector<Option> table = {
        {.set = model,
         .name = "wtype",
         .kind = Kind::text,
         .group = "model",
         .flags = "--type",
         .unit = "TYPE",
         .help = "weight type of linear layers: f32, f16, bf16, q8_0, q4_K … (left out: as in the file)",
         .store = into<&ModelOptions::wtype>},
        {.set = model,
         .name = "tensor_type_rules",
         .kind = Kind::text,
         .group = "model",
         .flags = "--tensor-type-rules",
         .unit = "RULES",
         .help = "types by name, such as '^vae=f32,attn=q8_0': pattern=type, the first match counts",
         .store = into<&ModelOptions::tensor_type_rules>},
        {.set = model,
         .name = "threads",
         .kind = Kind::integer,
         .least = 1,
         .most = 512,
         .group = "machine",
         .flags = "-t --threads",
         .unit = "N",
         .help = "threads of the CPU device (left out: physical cores)",
         .store = into<&ModelOptions::threads>},
        {.set = generate,
         .name = "rng",
         .kind = Kind::choice,
         .choices = rng_names,
         .from = From::fixed,
         .otherwise = "cuda",
         .group = "sampling",
         .flags = "--rng",
         .unit = "NAME",
         .written = "RNG",
         .help = "draw noise as PyTorch does on this device",
         .store = sampled<&SampleOptions::rng>},
        {.set = model,
         .name = "device",
         .kind = Kind::text,
         .from = From::fixed,
         .otherwise = "auto",
         .group = "machine",
         .flags = "--device",
         .unit = "NAME",
         .help = "a name that `sdcpp devices` lists, or auto",
         .store = into<&ModelOptions::device>},
        {.set = model,
         .name = "max_vram",
         .kind = Kind::budget,
         .least = -max_gib,
         .most = max_gib,
         .group = "memory",
         .flags = "--max-vram",
         .unit = "GIB",
         .help = "device memory for all networks; below 0: free memory less that; 0: no limit (left out: a limit only "
                 "if not "
                 "all fits)",
         .store = into<&ModelOptions::max_vram>},
        {.set = model,
         .name = "stream_layers",
         .kind = Kind::toggle,
         .group = "memory",
         .flags = "--stream-layers",
         .help = "keep some layers on the device (a budget does so anyway)",
         .store = into<&ModelOptions::stream_layers>},
        {.set = model,
         .name = "offload_to_cpu",
         .kind = Kind::toggle,
         .group = "memory",
         .flags = "--offload-to-cpu",
         .help = "keep weights off the device (a budget does so anyway)",
         .store = into<&ModelOptions::offload_to_cpu>},
        {.set = model,
         .name = "plan_policy",
         .kind = Kind::choice,
         .choices = policies,
         .from = From::fixed,
         .otherwise = "auto",
         .group = "memory",
         .flags = "--plan-policy",
         .unit = "NAME",
         .help = "the way to stream layers, for comparing",
         .store = into<&ModelOptions::policy>},
        {.set = model,
         .name = "gpu_layers",
         .kind = Kind::integer,
         .least = -1,
         .most = max_blocks,
         .group = "memory",
         .flags = "-ngl --gpu-layers",
         .unit = "N",
         .help = "at most so many layers stay on the device; below 0: any number",
         .store = into<&ModelOptions::gpu_layers>},
        {.set = model,
         .name = "whole_process",
         .kind = Kind::toggle,
         .from = From::fixed,
         .otherwise = "false",
         .group = "memory",
         .help = "on the CPU, the budget is for the whole process, not for the networks alone",
         .store = into<&ModelOptions::whole_process>},
        {.set = model,
         .name = "link_speed",
         .kind = Kind::numbers,
         .least = 0,
         .most = 1e30,
         .group = "machine",
         .help = "the device's FLOP/s and the bytes per second to it (left out: measured if a plan needs them)",
         .store = store_link_speed},
        {.set = model,
         .name = "blas",
         .kind = Kind::choice,
         .choices = gemm_kinds,
         .group = "machine",
         .flags = "--no-blas",
         .help = "compute with ggml's kernels alone on the CPU",
         .store = within<&ModelOptions::gemm, &GemmChoice::kind>},
        {.set = model,
         .name = "blas_library",
         .kind = Kind::text,
         .help = "the file of the OpenBLAS of the package scipy-openblas32; left out: ggml's kernels alone",
         .store = within<&ModelOptions::gemm, &GemmChoice::library>},
        {.set = model,
         .name = "matmul_precision",
         .kind = Kind::choice,
         .choices = precisions,
         .from = From::fixed,
         .otherwise = "f32",
         .group = "machine",
         .flags = "--matmul-precision",
         .unit = "NAME",
         .help = "type of large matrix products on the CPU; bf16 is faster on processors that compute with it",
         .store = store_precision},
        {.set = model,
         .name = "profile",
         .kind = Kind::toggle,
         .from = From::fixed,
         .otherwise = "false",
         .group = "machine",
         .flags = "--profile",
         .help = "record times by kind of operation and by stage",
         .store = into<&ModelOptions::profile>},

        {.set = generate,
         .name = "width",
         .kind = Kind::integer,
         .least = 1,
         .most = max_pixels_side,
         .from = From::model,
         .otherwise = "512",
         .group = "picture",
         .flags = "-W --width",
         .unit = "PIXELS",
         .written = "Size",
         .help = "pixels across",
         .store = sampled<&SampleOptions::width>},
        {.set = generate,
         .name = "height",
         .kind = Kind::integer,
         .least = 1,
         .most = max_pixels_side,
         .from = From::model,
         .otherwise = "512",
         .group = "picture",
         .flags = "-H --height",
         .unit = "PIXELS",
         .written = "Size",
         .help = "pixels down",
         .store = sampled<&SampleOptions::height>},
        {.set = generate,
         .name = "steps",
         .kind = Kind::integer,
         .least = 1,
         .most = 10000,
         .from = From::model,
         .otherwise = "20",
         .group = "sampling",
         .flags = "--steps",
         .unit = "N",
         .written = "Steps",
         .help = "steps of the sampler",
         .store = sampled<&SampleOptions::steps>},
        {.set = generate,
         .name = "cfg_scale",
         .kind = Kind::number,
         .least = 0,
         .most = 1000,
         .from = From::model,
         .otherwise = "7",
         .group = "sampling",
         .flags = "--cfg-scale",
         .unit = "X",
         .written = "CFG scale",
         .help = "guidance; 1 = none",
         .store = guided_by<&Guidance::scale>},
        {.set = face,
         .name = "image_cfg_scale",
         .kind = Kind::number,
         .least = 0,
         .most = 1000,
         .group = "guidance",
         .flags = "--img-cfg-scale",
         .unit = "X",
         .written = "Image CFG scale",
         .help = "for models that edit a picture: how closely to stay with it (left out: 1.5)"},
        {.set = generate,
         .name = "guidance_start",
         .kind = Kind::number,
         .least = 0,
         .most = 1,
         .group = "guidance",
         .flags = "--guidance-start",
         .unit = "SHARE",
         .written = "Guidance start",
         .help = "the share of the steps before guidance begins (left out: 0)",
         .store = sampled<&SampleOptions::guidance_start>},
        {.set = generate,
         .name = "guidance_end",
         .kind = Kind::number,
         .least = 0,
         .most = 1,
         .group = "guidance",
         .flags = "--guidance-end",
         .unit = "SHARE",
         .written = "Guidance end",
         .help = "the share of the steps after which it ends (left out: 1)",
         .store = sampled<&SampleOptions::guidance_end>},
        {.set = generate,
         .name = "guidance_rescale",
         .kind = Kind::number,
         .least = 0,
         .most = 1,
         .group = "guidance",
         .flags = "--guidance-rescale",
         .unit = "X",
         .written = "Guidance rescale",
         .help =
             "how far the guided prediction gets the range of the prompt's own, against burnt colours; 0.7 is usual",
         .store = guided_by<&Guidance::rescale>},
        {.set = generate,
         .name = "guidance_norm",
         .kind = Kind::number,
         .least = 0,
         .most = 1,
         .from = From::model,
         .otherwise = "0",
         .group = "guidance",
         .flags = "--guidance-norm",
         .unit = "X",
         .written = "Guidance norm",
         .help = "how far each patch of the guided prediction gets the norm of the prompt's own",
         .store = guided_by<&Guidance::norm>},
        {.set = generate,
         .name = "apg_eta",
         .kind = Kind::number,
         .least = 0,
         .most = 10,
         .group = "guidance",
         .flags = "--apg-eta",
         .unit = "X",
         .written = "APG eta",
         .help = "adaptive projected guidance: the share of what is parallel to the picture; 0 to 1",
         .store = guided_by<&Guidance::parallel>},
        {.set = generate,
         .name = "apg_momentum",
         .kind = Kind::number,
         .least = -1,
         .most = 1,
         .group = "guidance",
         .flags = "--apg-momentum",
         .unit = "X",
         .written = "APG momentum",
         .help = "adaptive projected guidance: the part of the steps before; -0.5 is usual",
         .store = guided_by<&Guidance::momentum>},
        {.set = generate,
         .name = "apg_norm_threshold",
         .kind = Kind::number,
         .least = 0,
         .most = 1e6,
         .group = "guidance",
         .flags = "--apg-norm-threshold",
         .unit = "X",
         .written = "APG norm threshold",
         .help = "adaptive projected guidance: the greatest norm of a change; 15 is usual, 0: any",
         .store = guided_by<&Guidance::norm_threshold>},
        {.set = generate,
         .name = "cfg_zero_star",
         .kind = Kind::toggle,
         .from = From::fixed,
         .otherwise = "false",
         .group = "guidance",
         .flags = "--cfg-zero-star",
         .help = "CFG-Zero*: scale the negative to the prompt's prediction, for flow models",
         .store = guided_by<&Guidance::zero_star>},
        {.set = generate,
         .name = "zero_init_steps",
         .kind = Kind::integer,
         .least = 0,
         .most = 10000,
         .group = "guidance",
         .flags = "--zero-init-steps",
         .unit = "N",
         .written = "Zero init steps",
         .help = "CFG-Zero*: so many first steps change nothing (left out: 1 for flow models, else 0)",
         .store = guided_by<&Guidance::zero_steps>},
        {.set = generate,
         .name = "mimic_scale",
         .kind = Kind::number,
         .least = 0,
         .most = 1000,
         .group = "guidance",
         .flags = "--mimic-scale",
         .unit = "X",
         .written = "Mimic scale",
         .help = "dynamic thresholding: keep the range of colours that this cfg_scale gives; 7 is usual",
         .store = guided_by<&Guidance::mimic_scale>},
        {.set = generate,
         .name = "threshold_percentile",
         .kind = Kind::number,
         .least = 0,
         .most = 1,
         .group = "guidance",
         .flags = "--threshold-percentile",
         .unit = "SHARE",
         .written = "Threshold percentile",
         .help = "dynamic thresholding: the share of the values that is not cut (left out: 1)",
         .store = guided_by<&Guidance::percentile>},
        {.set = generate,
         .name = "threshold_phi",
         .kind = Kind::number,
         .least = 0,
         .most = 1,
         .group = "guidance",
         .flags = "--threshold-phi",
         .unit = "X",
         .written = "Interpolate Phi",
         .help = "dynamic thresholding: its share in the result (left out: 1)",
         .store = guided_by<&Guidance::phi>},
        {.set = generate,
         .name = "slg_scale",
         .kind = Kind::number,
         .least = 0,
         .most = 1000,
         .group = "guidance",
         .flags = "--slg-scale",
         .unit = "X",
         .written = "SLG scale",
         .help = "skip-layer guidance, for transformers: how far from what the model makes without some layers; 2.8 is "
                 "usual, 0: off",
         .store = guided_by<&Guidance::skip_scale>},
        {.set = generate,
         .name = "skip_layers",
         .kind = Kind::numbers,
         .least = 0,
         .most = max_blocks,
         .group = "guidance",
         .flags = "--skip-layers",
         .unit = "N,N,…",
         .written = "Skip layers",
         .help = "skip-layer guidance: the layers that are left out, from 0 (left out: 7,8,9)",
         .store = store_skip_layers},
        {.set = generate,
         .name = "skip_layer_start",
         .kind = Kind::number,
         .least = 0,
         .most = 1,
         .group = "guidance",
         .flags = "--skip-layer-start",
         .unit = "SHARE",
         .written = "Skip layer start",
         .help = "skip-layer guidance: the share of the steps before it (left out: 0.01); the first step never has it",
         .store = guided_by<&Guidance::skip_start>},
        {.set = generate,
         .name = "skip_layer_end",
         .kind = Kind::number,
         .least = 0,
         .most = 1,
         .group = "guidance",
         .flags = "--skip-layer-end",
         .unit = "SHARE",
         .written = "Skip layer end",
         .help = "skip-layer guidance: the share of the steps after which it ends (left out: 0.2)",
         .store = guided_by<&Guidance::skip_end>},
        {.set = generate,
         .name = "sampler",
         .kind = Kind::choice,
         .choices = sampler_names,
         .from = From::model,
         .otherwise = "euler_a",
         .group = "sampling",
         .flags = "--sampling-method",
         .unit = "NAME",
         .written = "Sampler",
         .help = "the sampler that removes the noise",
         .store = sampled<&SampleOptions::sampler>},
        {.set = generate,
         .name = "scheduler",
         .kind = Kind::choice,
         .choices = scheduler_names,
         .from = From::model,
         .otherwise = "discrete",
         .group = "sampling",
         .flags = "--scheduler",
         .unit = "NAME",
         .written = "Schedule type",
         .help = "the noise levels of the steps",
         .store = sampled<&SampleOptions::scheduler>},
        {.set = generate,
         .name = "seed",
         .kind = Kind::integer,
         .least = min_seed,
         .most = max_seed,
         .from = From::random,
         .group = "picture",
         .flags = "-s --seed",
         .unit = "N",
         .written = "Seed",
         .help = "the first picture's seed, the others' rise by one; left out or below 0: random",
         .store = sampled<&SampleOptions::seed>},
        {.set = generate,
         .name = "seeds",
         .kind = Kind::text,
         .help = "a seed for each picture, separated by commas, in place of seed",
         .store = store_seeds},
        {.set = generate,
         .name = "batch_count",
         .kind = Kind::integer,
         .least = 1,
         .most = 1000,
         .from = From::fixed,
         .otherwise = "1",
         .group = "picture",
         .flags = "-b --batch-count",
         .unit = "N",
         .help = "number of pictures; the seed rises by one",
         .store = sampled<&SampleOptions::batch>},
        {.set = generate,
         .name = "clip_skip",
         .kind = Kind::integer,
         .least = 1,
         .most = 1000,
         .from = From::model,
         .otherwise = "1",
         .group = "sampling",
         .flags = "--clip-skip",
         .unit = "N",
         .written = "Clip skip",
         .help = "1 = all layers of the text encoder, 2 = without the last",
         .store = into<&GenerateOptions::clip_skip>},
        {.set = generate,
         .name = "sigmas",
         .kind = Kind::numbers,
         .least = 0,
         .most = 1e6,
         .group = "sampling",
         .flags = "--sigmas",
         .unit = "X,X,…",
         .written = "Sigmas",
         .help = "levels of noise of your own, falling, in place of steps and scheduler, such as 14.6,7.8,3.5,0",
         .store = sampled<&SampleOptions::sigmas>},
        {.set = generate,
         .name = "eta",
         .kind = Kind::number,
         .least = 0,
         .most = 1,
         .group = "sampling",
         .flags = "--eta",
         .unit = "X",
         .help = "renewed noise of stochastic samplers and ddim, 0 to 1",
         .samplers = samplers_with_eta,
         .store = sampled<&SampleOptions::eta>},
        {.set = generate,
         .name = "denoising_start",
         .kind = Kind::number,
         .least = 0,
         .most = 1,
         .group = "sampling",
         .help = "go on from init_latent, which another model has brought so far, a share of the schedule",
         .store = sampled<&SampleOptions::denoising_start>},
        {.set = generate,
         .name = "denoising_end",
         .kind = Kind::number,
         .least = 0,
         .most = 1,
         .group = "sampling",
         .help = "leave the rest of the schedule to another model, such as a refiner",
         .store = sampled<&SampleOptions::denoising_end>},
        {.set = generate,
         .name = "flow_shift",
         .kind = Kind::number,
         .least = 0.01,
         .most = 100,
         .group = "sampling",
         .flags = "--flow-shift",
         .unit = "X",
         .help = "for flow models: above 1 spends more steps near noise",
         .store = sampled<&SampleOptions::flow_shift>},
        {.set = generate,
         .name = "guidance",
         .kind = Kind::number,
         .least = 0,
         .most = 100,
         .from = From::model,
         .otherwise = "3.5",
         .group = "sampling",
         .flags = "--guidance",
         .unit = "X",
         .help = "guidance as an input, for models that were distilled to take it",
         .store = sampled<&SampleOptions::guidance>},
        {.set = generate,
         .name = "noise",
         .kind = Kind::array,
         .group = "sampling",
         .help = "the first noise [C, H/f, W/f] of unit variance, or [N, C, H/f, W/f] for each picture, instead of the "
                 "seed's",
         .store = store_latents<&Start::noise, &GenerateOptions::noise_shape>},
        {.set = generate,
         .name = "init_latent",
         .kind = Kind::array,
         .help = "clean latents [C, H/f, W/f] or [N, C, H/f, W/f] that the run begins from",
         .store = store_latents<&Start::latent, &GenerateOptions::init_latent_shape>},
        {.set = generate,
         .name = "strength",
         .kind = Kind::number,
         .least = 0,
         .most = 1,
         .from = From::model,
         .otherwise = "0.75",
         .group = "picture",
         .flags = "--strength",
         .unit = "X",
         .written = "Denoising strength",
         .help = "how far the result may go from the initial picture: share of the steps that are run, 0 to 1 (left "
                 "out: 0.75)",
         .store = store_strength},
        {.set = generate,
         .name = "mask",
         .kind = Kind::array,
         .help = "[H/f, W/f] or [N, H/f, W/f] in 0 to 1: what is repainted of init_latent is 1",
         .store = store_mask},
        {.set = generate,
         .name = "extra",
         .kind = Kind::array,
         .help = "values for the input channels that a checkpoint for inpainting or editing has beside the latent's",
         .store = store_extra},
        {.set = generate,
         .name = "references",
         .kind = Kind::array,
         .help = "latents of reference pictures, one behind the other",
         .store = store_references},
        {.set = generate,
         .name = "reference_sides",
         .kind = Kind::numbers,
         .least = 1,
         .most = 65536,
         .help = "the height and width of each of these latents",
         .store = store_reference_sides},
        {.set = face,
         .name = "mask_blur",
         .kind = Kind::number,
         .least = 0,
         .most = 256,
         .group = "picture",
         .flags = "--mask-blur",
         .unit = "PIXELS",
         .written = "Mask blur",
         .help = "how soft the mask's border is made (left out: 4)"},
        {.set = face,
         .name = "mask_invert",
         .kind = Kind::toggle,
         .group = "picture",
         .flags = "--mask-invert",
         .help = "repaint what is black in the mask"},
        {.set = face,
         .name = "mask_fill",
         .kind = Kind::choice,
         .choices = mask_fills,
         .group = "picture",
         .flags = "--mask-fill",
         .unit = "NAME",
         .written = "Masked content",
         .help = "what the repainted part begins as (left out: original)"},
        {.set = face,
         .name = "only_masked",
         .kind = Kind::toggle,
         .group = "picture",
         .flags = "--only-masked",
         .help = "work on the surroundings of the mask alone, at the full size, and put the result back"},
        {.set = face,
         .name = "only_masked_padding",
         .kind = Kind::integer,
         .least = 0,
         .most = 4096,
         .group = "picture",
         .flags = "--only-masked-padding",
         .unit = "PIXELS",
         .written = "Masked area padding",
         .help = "pixels around the mask that are looked at with only_masked (left out: 32)"},
        {.set = face,
         .name = "paste_back",
         .kind = Kind::toggle,
         .group = "picture",
         .flags = "--no-paste-back",
         .help = "put the kept pixels of the picture over the result (left out: yes)"},
        {.set = generate,
         .name = "soft_mask",
         .kind = Kind::toggle,
         .group = "picture",
         .flags = "--soft-mask",
         .help = "grey in the mask says how much may change (differential diffusion)",
         .store = sampled<&SampleOptions::soft_mask>},
        {.set = generate,
         .name = "soft_inpainting",
         .kind = Kind::toggle,
         .group = "picture",
         .flags = "--soft-inpainting",
         .written = "Soft inpainting enabled",
         .help = "repaint softly at the mask's border, as A1111's web UI does",
         .store = soft_with<&SoftInpainting::on>},
        {.set = generate,
         .name = "soft_schedule_bias",
         .kind = Kind::number,
         .least = 0,
         .most = 8,
         .group = "picture",
         .flags = "--soft-schedule-bias",
         .unit = "X",
         .written = "Soft inpainting schedule bias",
         .help = "soft inpainting: above 1 keeps the picture later, below 1 sooner (left out: 1)",
         .store = soft_with<&SoftInpainting::bias>},
        {.set = generate,
         .name = "soft_preservation",
         .kind = Kind::number,
         .least = 0,
         .most = 8,
         .group = "picture",
         .flags = "--soft-preservation",
         .unit = "X",
         .written = "Soft inpainting preservation strength",
         .help = "soft inpainting: how much of the picture stays where the mask is grey (left out: 0.5)",
         .store = soft_with<&SoftInpainting::preservation>},
        {.set = generate,
         .name = "soft_contrast_boost",
         .kind = Kind::number,
         .least = 1,
         .most = 32,
         .group = "picture",
         .flags = "--soft-contrast-boost",
         .unit = "X",
         .written = "Soft inpainting transition contrast boost",
         .help = "soft inpainting: how much contrast the transition keeps (left out: 4)",
         .store = soft_with<&SoftInpainting::contrast>},
        {.set = face,
         .name = "soft_mask_influence",
         .kind = Kind::number,
         .least = 0,
         .most = 1,
         .group = "picture",
         .flags = "--soft-mask-influence",
         .unit = "X",
         .written = "Soft inpainting mask influence",
         .help = "soft inpainting: how far the mask, beside the change, says which pixels are kept (left out: 0)"},
        {.set = face,
         .name = "soft_difference_threshold",
         .kind = Kind::number,
         .least = 0,
         .most = 8,
         .group = "picture",
         .flags = "--soft-difference-threshold",
         .unit = "X",
         .written = "Soft inpainting difference threshold",
         .help = "soft inpainting: the change from which on pixels are not kept (left out: 0.5)"},
        {.set = face,
         .name = "soft_difference_contrast",
         .kind = Kind::number,
         .least = 0,
         .most = 8,
         .group = "picture",
         .flags = "--soft-difference-contrast",
         .unit = "X",
         .written = "Soft inpainting difference contrast",
         .help = "soft inpainting: how sharply kept pixels end (left out: 2)"},
        {.set = generate,
         .name = "cache_mode",
         .kind = Kind::choice,
         .choices = cache_names,
         .from = From::fixed,
         .otherwise = "none",
         .group = "step cache",
         .flags = "--cache-mode",
         .unit = "NAME",
         .help = "take predictions of some steps from those before: easycache, taylorseer, first_block",
         .store = cache_with<&CacheOptions::mode>},
        {.set = generate,
         .name = "cache_threshold",
         .kind = Kind::number,
         .least = 0,
         .most = 100,
         .group = "step cache",
         .flags = "--cache-threshold",
         .unit = "X",
         .written = "Cache threshold",
         .help = "how much predictions (easycache) or the first block's work (first_block) may change before a step is "
                 "computed (left out: 0.2, 0.08)",
         .store = cache_with<&CacheOptions::threshold>},
        {.set = generate,
         .name = "cache_start",
         .kind = Kind::number,
         .least = 0,
         .most = 1,
         .group = "step cache",
         .flags = "--cache-start",
         .unit = "SHARE",
         .help = "the share of the steps before the cache is used (left out: 0.15)",
         .store = cache_with<&CacheOptions::start>},
        {.set = generate,
         .name = "cache_end",
         .kind = Kind::number,
         .least = 0,
         .most = 1,
         .group = "step cache",
         .flags = "--cache-end",
         .unit = "SHARE",
         .help = "the share of the steps after which it is not (left out: 0.95)",
         .store = cache_with<&CacheOptions::end>},
        {.set = generate,
         .name = "cache_interval",
         .kind = Kind::integer,
         .least = 1,
         .most = 100,
         .group = "step cache",
         .flags = "--cache-interval",
         .unit = "N",
         .written = "Cache interval",
         .help = "taylorseer: one step in so many is computed (left out: 3)",
         .store = cache_with<&CacheOptions::interval>},
        {.set = generate,
         .name = "cache_order",
         .kind = Kind::integer,
         .least = 0,
         .most = 2,
         .group = "step cache",
         .flags = "--cache-order",
         .unit = "N",
         .help = "taylorseer: the order of the series (left out: 1)",
         .store = cache_with<&CacheOptions::order>},
        {.set = face,
         .name = "hires",
         .kind = Kind::toggle,
         .group = "hires",
         .flags = "--hires",
         .help = "make the picture small first, then larger from it"},
        {.set = face,
         .name = "hires_upscaler",
         .kind = Kind::choice,
         .choices = hires_upscalers,
         .group = "hires",
         .flags = "--hires-upscaler",
         .unit = "NAME",
         .written = "Hires upscaler",
         .help = "how it is made larger in between (left out: latent); model: by --upscale-model"},
        {.set = face,
         .name = "hires_scale",
         .kind = Kind::number,
         .least = 1,
         .most = 8,
         .group = "hires",
         .flags = "--hires-scale",
         .unit = "X",
         .written = "Hires upscale",
         .help = "how many times larger the sides become (left out: 2)"},
        {.set = face,
         .name = "hires_width",
         .kind = Kind::integer,
         .least = 1,
         .most = max_pixels_side,
         .group = "hires",
         .flags = "--hires-width",
         .unit = "PIXELS",
         .help = "the width at the end, in place of a scale"},
        {.set = face,
         .name = "hires_height",
         .kind = Kind::integer,
         .least = 1,
         .most = max_pixels_side,
         .group = "hires",
         .flags = "--hires-height",
         .unit = "PIXELS",
         .help = "the height at the end, in place of a scale"},
        {.set = face,
         .name = "hires_steps",
         .kind = Kind::integer,
         .least = 1,
         .most = 10000,
         .group = "hires",
         .flags = "--hires-steps",
         .unit = "N",
         .written = "Hires steps",
         .help = "steps of the second pass (left out: as many as of the first)"},
        {.set = face,
         .name = "hires_denoising_strength",
         .kind = Kind::number,
         .least = 0,
         .most = 1,
         .group = "hires",
         .flags = "--hires-denoising-strength",
         .unit = "X",
         .written = "Hires denoising strength",
         .help = "how far the second pass may go from the enlarged picture (left out: 0.7)"},
        {.set = face,
         .name = "hires_exact_steps",
         .kind = Kind::toggle,
         .group = "hires",
         .flags = "--hires-exact-steps",
         .help = "do exactly so many steps in the second pass, as A1111's web UI does"},
        {.set = generate,
         .name = "upscale_tile_size",
         .kind = Kind::integer,
         .least = 32,
         .most = 16384,
         .group = "upscaling",
         .flags = "--upscale-tile-size",
         .unit = "PIXELS",
         .help = "sides of the tiles that the upscaler works in (left out: as memory allows)",
         .store = within<&GenerateOptions::upscale, &UpscaleOptions::tile>},
        {.set = generate,
         .name = "preview",
         .kind = Kind::choice,
         .choices = preview_names,
         .from = From::fixed,
         .otherwise = "none",
         .group = "preview",
         .flags = "--preview",
         .unit = "NAME",
         .help = "pictures while a run goes on: proj (at once, rough), tae (the tiny autoencoder), vae",
         .store = within<&GenerateOptions::preview, &PreviewOptions::method>},
        {.set = generate,
         .name = "preview_interval",
         .kind = Kind::integer,
         .least = 1,
         .most = 10000,
         .from = From::fixed,
         .otherwise = "1",
         .group = "preview",
         .flags = "--preview-interval",
         .unit = "N",
         .help = "steps from one preview to the next",
         .store = within<&GenerateOptions::preview, &PreviewOptions::interval>},
        {.set = generate,
         .name = "preview_noisy",
         .kind = Kind::toggle,
         .from = From::fixed,
         .otherwise = "false",
         .group = "preview",
         .flags = "--preview-noisy",
         .help = "show the noisy picture in place of the present estimate",
         .store = within<&GenerateOptions::preview, &PreviewOptions::noisy>},
        {.set = generate,
         .name = "vae_tiling",
         .kind = Kind::toggle,
         .group = "decoding",
         .flags = "--vae-tiling",
         .help = "decode in tiles (left out: if the picture is large)",
         .store = decoded<&DecodeOptions::tiling>},
        {.set = generate,
         .name = "vae_tile_size",
         .kind = Kind::integer,
         .least = 8,
         .most = 2048,
         .group = "decoding",
         .flags = "--vae-tile-size",
         .unit = "N",
         .help = "latent sides of a tile (left out: 64, or what memory allows)",
         .store = decoded<&DecodeOptions::tile>},
        {.set = generate,
         .name = "vae_tile_overlap",
         .kind = Kind::number,
         .least = 0,
         .most = 0.5,
         .group = "decoding",
         .flags = "--vae-tile-overlap",
         .unit = "X",
         .help = "share of a tile that neighbours cover too (left out: 0.25)",
         .store = decoded<&DecodeOptions::overlap>},
        {.set = generate,
         .name = "use_taesd",
         .kind = Kind::toggle,
         .from = From::fixed,
         .otherwise = "false",
         .group = "decoding",
         .help = "decode with the tiny autoencoder",
         .store = decoded<&DecodeOptions::taesd>},

        {.set = plan,
         .name = "budget_bytes",
         .kind = Kind::integer,
         .least = 0,
         .most = 1125899906842624.0,
         .from = From::fixed,
         .otherwise = "0",
         .group = "plan",
         .help = "bytes of device memory; 0: no budget",
         .store = into<&PlanOptions::budget_bytes>},
        {.set = plan,
         .name = "policy",
         .kind = Kind::choice,
         .choices = compared_policies,
         .from = From::fixed,
         .otherwise = "auto",
         .group = "plan",
         .help = "the way to stream layers",
         .store = into<&PlanOptions::policy>},
        {.set = plan,
         .name = "stream_layers",
         .kind = Kind::toggle,
         .from = From::fixed,
         .otherwise = "true",
         .group = "plan",
         .help = "keep some layers on the device",
         .store = into<&PlanOptions::stream_layers>},
        {.set = plan,
         .name = "offload_to_cpu",
         .kind = Kind::toggle,
         .from = From::fixed,
         .otherwise = "true",
         .group = "plan",
         .help = "keep weights off the device",
         .store = into<&PlanOptions::offload_to_cpu>},
        {.set = plan,
         .name = "link_bytes_per_s",
         .kind = Kind::number,
         .least = 1,
         .most = 1e18,
         .from = From::fixed,
         .otherwise = "12e9",
         .group = "plan",
         .help = "the speed of uploads",
         .store = into<&PlanOptions::link_bytes_per_s>},
        {.set = plan,
         .name = "microbatches",
         .kind = Kind::integer,
         .least = 1,
         .most = 1024,
         .from = From::fixed,
         .otherwise = "1",
         .group = "plan",
         .help = "halves of pictures that go through the network in a step",
         .store = into<&PlanOptions::microbatches>},
        {.set = plan,
         .name = "dispatch_seconds",
         .kind = Kind::number,
         .least = 0,
         .most = 1e6,
         .from = From::fixed,
         .otherwise = "0",
         .group = "plan",
         .help = "the time to start a graph",
         .store = into<&PlanOptions::dispatch_seconds>},
        {.set = plan,
         .name = "gpu_layers",
         .kind = Kind::integer,
         .least = -1,
         .most = max_blocks,
         .group = "plan",
         .help = "at most so many blocks are resident; below 0: any number",
         .store = into<&PlanOptions::max_resident>},
    };
    return table;
}

namespace {

const char* text_of(OptionSet set) {
    switch (set) {
        case OptionSet::model:
            return "model";
        case OptionSet::generate:
            return "generate";
        case OptionSet::plan:
            return "plan";
        case OptionSet::face:
            return "face";
    }
    return "";
}

const char* text_of(OptionKind kind) {
    switch (kind) {
        case OptionKind::number:
            return "number";
        case OptionKind::integer:
            return "integer";
        case OptionKind::text:
            return "text";
        case OptionKind::choice:
            return "choice";
        case OptionKind::toggle:
            return "switch";
        case OptionKind::budget:
            return "budget";
        case OptionKind::numbers:
            return "numbers";
        case OptionKind::array:
            return "array";
    }
    return "";
}

const char* text_of(DefaultFrom from) {
    switch (from) {
        case DefaultFrom::engine:
            return "engine";
        case DefaultFrom::fixed:
            return "fixed";
        case DefaultFrom::model:
            return "model";
        case DefaultFrom::random:
            return "random";
    }
    return "";
}

[[noreturn]] void wrong_kind(const Option& option, const std::string& given) {
    const bool vowel = option.kind == OptionKind::integer || option.kind == OptionKind::array;
    fail(SDCPP_INVALID_ARGUMENT, OptionName{option.name}, " must be ", vowel ? "an " : "a ", text_of(option.kind),
         ", not ", given);
}

std::string shown(double value) {
    std::ostringstream out;
    out << value;
    return out.str();
}

double in_bounds(const Option& option, double value) {
    if (!std::isfinite(value) || value < option.least || value > option.most)
        fail(SDCPP_INVALID_ARGUMENT, OptionName{option.name}, " is ", shown(value), "; ", shown(option.least), " to ",
             shown(option.most), " are possible");
    return value;
}

// `text` as one number, whole.
bool read_number(std::string_view text, double& out) {
    while (!text.empty() && text.front() == ' ') text.remove_prefix(1);
    while (!text.empty() && text.back() == ' ') text.remove_suffix(1);
    const auto [end, problem] = std::from_chars(text.data(), text.data() + text.size(), out);
    return !text.empty() && problem == std::errc() && end == text.data() + text.size();
}

// Integers of 64 bits, with or without sign.
OptionValue parse_integer(const Option& option, const std::string& text) {
    const char *first = text.data(), *last = first + text.size();
    int64_t whole = 0;
    auto read = std::from_chars(first, last, whole);
    if (read.ec == std::errc() && read.ptr == last) {
        in_bounds(option, static_cast<double>(whole));
        return whole;
    }
    uint64_t large = 0;
    read = std::from_chars(first, last, large);
    if (read.ec != std::errc() || read.ptr != last) wrong_kind(option, "'" + text.substr(0, 60) + "'");
    in_bounds(option, static_cast<double>(large));
    return large;
}

}  // namespace

OptionValue parse_option(const Option& option, const std::string& text) {
    double number = 0;
    switch (option.kind) {
        case OptionKind::integer:
            return parse_integer(option, text);
        case OptionKind::number:
        case OptionKind::budget:
            if (!read_number(text, number)) wrong_kind(option, "'" + text.substr(0, 60) + "'");
            return in_bounds(option, number);
        case OptionKind::text:
            return text;
        case OptionKind::choice:
            return require_name(OptionName{option.name}, text, option.choices());
        case OptionKind::toggle:
            if (text == "true" || text == "1") return true;
            if (text == "false" || text == "0") return false;
            wrong_kind(option, "'" + text.substr(0, 60) + "'");
        case OptionKind::numbers: {
            std::vector<double> list;
            std::istringstream parts(text);
            for (std::string part; std::getline(parts, part, ',');) {
                if (!read_number(part, number)) wrong_kind(option, "'" + text.substr(0, 60) + "'");
                list.push_back(in_bounds(option, number));
            }
            return list;
        }
        case OptionKind::array:
            break;
    }
    wrong_kind(option, "text");
}

std::string default_text(const Option& option, const std::function<std::string(const std::string&)>& model_default) {
    if (option.from == DefaultFrom::model && model_default)
        if (std::string own = model_default(option.name); !own.empty()) return own;
    return option.from == DefaultFrom::fixed || option.from == DefaultFrom::model ? option.otherwise : "";
}

Options::Options(std::string_view set) : set_(OptionSet::model) {
    const std::string found = require_name("set of options", std::string(set), {"model", "generate", "plan"});
    set_ = found == "model" ? OptionSet::model : found == "generate" ? OptionSet::generate : OptionSet::plan;
}

const Option& Options::row(const std::string& name) const {
    std::vector<std::string> known;
    for (const Option& option : option_table()) {
        if (option.set != set_) continue;
        if (option.name == name) return option;
        known.emplace_back(option.name);
    }
    require_name("option", name, known);
    fail(SDCPP_INTERNAL, "option '", name, "' was found twice");
}

void Options::set_number(const std::string& name, double value) {
    const Option& option = row(name);
    switch (option.kind) {
        case OptionKind::number:
        case OptionKind::budget:
            values_[name] = in_bounds(option, value);
            return;
        case OptionKind::integer:
            in_bounds(option, value);
            if (value != std::floor(value) || std::abs(value) > 9007199254740992.0) wrong_kind(option, shown(value));
            values_[name] = static_cast<int64_t>(value);
            return;
        case OptionKind::toggle:
            if (value != 0 && value != 1) wrong_kind(option, shown(value));
            values_[name] = value == 1;
            return;
        default:
            wrong_kind(option, "the number " + shown(value));
    }
}

void Options::set_text(const std::string& name, const std::string& value) {
    values_[name] = parse_option(row(name), value);
}

void Options::set_array(const std::string& name, OptionArray value) {
    const Option& option = row(name);
    if (option.kind != OptionKind::array) wrong_kind(option, "an array");
    for (const float one : value.data)
        if (!std::isfinite(one)) fail(SDCPP_INVALID_ARGUMENT, OptionName{option.name}, " must be finite numbers");
    values_[name] = std::move(value);
}

void Options::store_into(OptionSet wanted, void* target,
                         const std::function<std::string(const std::string&)>& own) const {
    if (set_ != wanted)
        fail(SDCPP_INVALID_ARGUMENT, "these are options of the set '", text_of(set_), "'; '", text_of(wanted),
             "' is needed");
    for (const Option& option : option_table()) {
        if (option.set != set_) continue;
        const auto given = values_.find(option.name);
        const int64_t* whole = given == values_.end() ? nullptr : std::get_if<int64_t>(&given->second);
        const bool drawn = option.from == DefaultFrom::random && whole && *whole < 0;  // as if it had been left out
        if (given != values_.end() && !drawn)
            option.store(target, given->second);
        else if (option.from == DefaultFrom::random)
            option.store(target, static_cast<int64_t>(std::random_device()()));
        else if (const std::string text = default_text(option, own); !text.empty())
            option.store(target, parse_option(option, text));
    }
}

Json option_table_json() {
    Json::Array rows;
    for (const Option& option : option_table()) {
        Json::Array choices, samplers;
        if (option.choices)
            for (const std::string& name : option.choices()) choices.emplace_back(name);
        if (option.samplers)
            for (const std::string& name : option.samplers()) samplers.emplace_back(name);
        Json::Array flags;
        std::istringstream words(option.flags);
        for (std::string word; words >> word;) flags.emplace_back(word);
        const bool bounded = option.most > option.least;
        rows.emplace_back(Json::Object{{"set", Json(std::string(text_of(option.set)))},
                                       {"name", Json(std::string(option.name))},
                                       {"kind", Json(std::string(text_of(option.kind)))},
                                       {"least", bounded ? Json(option.least) : Json()},
                                       {"most", bounded ? Json(option.most) : Json()},
                                       {"choices", Json(std::move(choices))},
                                       {"default_from", Json(std::string(text_of(option.from)))},
                                       {"default", Json(default_text(option, nullptr))},
                                       {"group", Json(std::string(option.group))},
                                       {"flags", Json(std::move(flags))},
                                       {"unit", Json(std::string(option.unit))},
                                       {"written", Json(std::string(option.written))},
                                       {"help", Json(std::string(option.help))},
                                       {"samplers", Json(std::move(samplers))}});
    }
    return Json(std::move(rows));
}

}  // namespace sdcpp
