#include "pipeline/model.h"

#include <algorithm>
#include <sstream>

#include "base/error.h"
#include "base/log.h"
#include "families/fit.h"
#include "models/autoencoder.h"
#include "pipeline/checks.h"

namespace sdcpp {

Model::Model(const ModelOptions& wanted)
    : options(wanted),
      files(open_files(options.paths)),
      device(options.device, options.threads, &cancelled, options.gemm),
      memory(device, Budget::from_gib(options.max_vram, options.whole_process)),
      family(family_of(files)) {
    std::vector<NamedNetwork> parts = make_networks(files);
    require_fit(parts, family);
    warn_of_unused(files, parts);
    for (NamedNetwork& made : parts) {
        auto executor = executor_of(std::move(made.network));
        adapters.add(component_of(*made.part).naming, made.part->role == Role::text_encoder, executor->weights());
        networks.push_back({std::string(made.part->name), made.part->role, std::move(executor)});
    }
    const auto taken = family.text.encoders();
    for (const Loaded& text : networks)
        if (text.role == Role::text_encoder && denoiser() &&
            std::find(taken.begin(), taken.end(), text.name) == taken.end())
            log(SDCPP_LOG_WARNING, "the text encoder " + text.name + " is not used by " + std::string(family.title));

    const Json& config = files.config();
    const Json& scheduler = config["scheduler"];
    const Prediction& prediction = family.prediction;
    facts.scheduler = scheduler_config(scheduler, prediction.flow, prediction.mends_schedulers);
    if (!facts.scheduler.name.empty() && facts.scheduler.sampler.empty())
        log(SDCPP_LOG_WARNING,
            "diffusers' " + facts.scheduler.name + " has no equal here; pictures will differ from diffusers'");
    for (const std::string& name : facts.scheduler.ignored)
        log(SDCPP_LOG_WARNING,
            "the folder's scheduler setting " + name + " is not followed; pictures will differ from diffusers'");
    if (prediction.flow) {
        facts.predicts = Predicts::velocity;
    } else {
        const char* own = prediction.v_prediction(files) ? "v_prediction" : "epsilon";
        const std::string kind = scheduler.string_or("prediction_type", own);
        if (kind != "epsilon" && kind != "v_prediction")
            fail(SDCPP_UNSUPPORTED_MODEL, "the model predicts '", kind.substr(0, 40),
                 "' by its scheduler's config; epsilon and v_prediction are known");
        const bool v = kind == "v_prediction";
        facts.predicts = v ? Predicts::v : Predicts::noise;
        const bool zero_snr = files.find("mark.ztsnr") || scheduler.boolean_or("rescale_betas_zero_snr", false);
        diffusion = NoiseTable(scheduler.string_or("beta_schedule", "scaled_linear"),
                               scheduler.number_or("beta_start", 0.00085), scheduler.number_or("beta_end", 0.012),
                               static_cast<int>(scheduler.number_or("num_train_timesteps", 1000)), zero_snr);
        diffusion.steps_offset = facts.scheduler.name.empty() ? 1 : facts.scheduler.steps_offset;
        diffusion.leading_past_last = facts.scheduler.leading_past_last;
        diffusion.range_of = facts.scheduler.range_of;
        diffusion.aligned_sigmas.assign(prediction.aligned_sigmas.begin(), prediction.aligned_sigmas.end());
        diffusion.geometric_sigmas.assign(prediction.geometric_sigmas.begin(), prediction.geometric_sigmas.end());
    }
    LatentSpace& latent = facts.latent;
    latent = family.latent;
    const Json& coder = config[find_component(family.autoencoder)->naming.config];
    latent.scale = coder.number_or("scaling_factor", latent.scale);
    latent.shift = coder.number_or("shift_factor", latent.shift);
    if (!(latent.scale > 0)) fail(SDCPP_UNSUPPORTED_MODEL, "the VAE's scaling_factor must be above 0");
    if (const Executor* decoder = by_role(Role::decoder)) {
        latent.channels = static_cast<int>(decoder->as<Autoencoder>().latent_channels());
        latent.factor = static_cast<int>(decoder->as<Autoencoder>().factor());
    }
    if (const Denoiser* net = denoiser()) {
        latent.channels = static_cast<int>(net->out_channels());
        facts.size_multiple = latent.factor * static_cast<int>(net->multiple());
    }
    device.set_speed(options.speed);
    if (options.stream_layers == 1 && options.max_vram == 0)
        log(SDCPP_LOG_WARNING, "stream_layers is ignored without a memory budget; add max_vram");
    if (options.stream_layers == 1 && options.offload_to_cpu == 0)
        log(SDCPP_LOG_WARNING, "stream_layers is ignored while the weights stay on the device; add offload_to_cpu");
    memory.begin();
}

std::unique_ptr<Executor> Model::executor_of(std::unique_ptr<Network> network) {
    const StreamingOptions streaming{options.policy, options.stream_layers != 0, options.offload_to_cpu != 0,
                                     options.gpu_layers};
    const TypeRules types(options.wtype, options.tensor_type_rules);
    auto executor = std::make_unique<Executor>(device, memory, std::move(network), types, streaming);
    if (options.profile) executor->set_profile(&profile);
    return executor;
}

const Denoiser* Model::denoiser() const {
    const Executor* executor = by_role(Role::denoiser);
    return executor ? &executor->as<Denoiser>() : nullptr;
}

void Model::require_size(int width, int height) const {
    const int multiple = facts.size_multiple;
    for (const int side : {width, height})
        if (side < multiple || side > max_pixels_side || side % multiple != 0)
            fail(SDCPP_INVALID_ARGUMENT, "width and height are ", width, " x ", height, "; both must be multiples of ",
                 multiple, " from ", multiple, " to ", max_pixels_side);
}

std::unique_lock<std::mutex> Model::start() {
    std::unique_lock lock(mutex);
    cancelled = false;
    return lock;
}

Executor* Model::by_role(Role role) const {
    for (const Loaded& one : networks)
        if (one.role == role) return one.executor.get();
    return nullptr;
}

Executor& Model::need(Role role) const {
    if (Executor* executor = by_role(role)) return *executor;
    for (const Component* component : components())
        for (const Component::NetworkRow& part : component->networks)
            if (part.role == role) return *find(std::string(part.name)).executor;  // which names the missing one
    fail(SDCPP_INTERNAL, "no component has this role");
}

bool Model::has(const std::string& network) const {
    return std::any_of(networks.begin(), networks.end(), [&](const auto& one) { return one.name == network; });
}

std::string Model::default_of(const std::string& option) const {
    const Json& own = files.config()["defaults"][option];
    double number = 0;
    if (own.string()) return *own.string();
    if (own.number(number)) {
        std::ostringstream text;
        text << number;
        return text.str();
    }
    const SchedulerConfig& scheduler = facts.scheduler;
    if (option == "sampler" && !scheduler.sampler.empty()) return scheduler.sampler;
    if (option == "scheduler" && !scheduler.schedule.empty()) return scheduler.schedule;
    const Defaults defaults = family.defaults(files);
    const auto found = defaults.find(option);
    return found == defaults.end() ? "" : found->second;
}

const Model::Loaded& Model::find(const std::string& network) const {
    for (const Loaded& one : networks)
        if (one.name == network) return one;
    for (const Component* component : components())
        for (const Component::NetworkRow& part : component->networks)
            if (part.name == network)
                fail(SDCPP_MISSING_PART, "the model has no ", part.title, " (", network, "); give one with ",
                     OptionName{component->option, "…"});
    fail(SDCPP_INVALID_ARGUMENT, "unknown network '", network, "'");
}

}  // namespace sdcpp
