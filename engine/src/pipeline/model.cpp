#include "pipeline/model.h"

#include <algorithm>
#include <sstream>

#include "base/error.h"
#include "base/log.h"
#include "pipeline/checks.h"

namespace sdcpp {
namespace {

constexpr int pictures_streamed_together = 16;  // more take more host memory and save little

}  // namespace

Model::Model(const ModelOptions& options)
    : options_(options),
      files_(options.paths, namings()),
      device_(options.device, options.threads, &cancelled_, options.gemm),
      memory_(device_, Budget::from_gib(options.max_vram, options.whole_process)),
      family_(family_of(files_)) {
    const TypeRules types(options.wtype, options.tensor_type_rules);
    const StreamingOptions streaming{options.policy, options.stream_layers != 0, options.offload_to_cpu != 0,
                                     options.gpu_layers};
    for (NamedNetwork& made : make_networks(files_)) {
        auto executor = std::make_unique<Executor>(device_, memory_, std::move(made.network), types, streaming);
        if (options.profile) executor->set_profile(&profile_);
        networks_.push_back({std::string(made.part->name), made.part->role, std::move(executor)});
    }
    denoiser_ = by_role(Role::denoiser);
    const auto taken = family_.text.encoders();
    for (const NamedExecutor& text : networks_)
        if (text.role == Role::text_encoder && denoiser_ &&
            std::find(taken.begin(), taken.end(), text.name) == taken.end())
            log(SDCPP_LOG_WARNING, "the text encoder " + text.name + " is not used by " + std::string(family_.title));

    const Json& config = files_.config();
    const Json& scheduler = config["scheduler"];
    const Prediction& prediction = family_.prediction;
    if (prediction.flow) {
        facts_.predicts = Predicts::velocity;
    } else {
        const char* own = prediction.v_prediction(files_) ? "v_prediction" : "epsilon";
        const bool v = scheduler.string_or("prediction_type", own) == "v_prediction";
        facts_.predicts = v ? Predicts::v : Predicts::noise;
        const bool zero_snr = files_.find("mark.ztsnr") || scheduler.boolean_or("rescale_betas_zero_snr", false);
        diffusion_ = NoiseTable(scheduler.string_or("beta_schedule", "scaled_linear"),
                                scheduler.number_or("beta_start", 0.00085), scheduler.number_or("beta_end", 0.012),
                                static_cast<int>(scheduler.number_or("num_train_timesteps", 1000)), zero_snr);
        diffusion_.aligned_sigmas.assign(prediction.aligned_sigmas.begin(), prediction.aligned_sigmas.end());
    }
    LatentSpace& latent = facts_.latent;
    latent = family_.latent;
    latent.scale = config["vae"].number_or("scaling_factor", latent.scale);
    latent.shift = config["vae"].number_or("shift_factor", latent.shift);
    if (!(latent.scale > 0)) fail(SDCPP_UNSUPPORTED_MODEL, "the VAE's scaling_factor must be above 0");
    const Executor* decoder = by_role(Role::decoder);
    if (decoder) {
        latent.channels = static_cast<int>(decoder->as<VaeDecoder>().latent_channels());
        latent.factor = static_cast<int>(decoder->as<VaeDecoder>().factor());
    }
    if (const Denoiser* net = denoiser()) {
        if (decoder && net->out_channels() != latent.channels)
            fail(SDCPP_UNSUPPORTED_MODEL, "the diffusion model makes latents of ", net->out_channels(),
                 " channels, the VAE takes ", latent.channels);
        if (net->in_channels() != net->out_channels())
            fail(SDCPP_UNSUPPORTED_MODEL, "a diffusion model with ", net->in_channels(),
                 " input channels (inpainting or image editing): not supported yet");
        if (const int64_t width = text_width(); width > 0 && width != net->width_of("context"))
            fail(SDCPP_UNSUPPORTED_MODEL, "the diffusion model takes text states ", net->width_of("context"),
                 " wide, the text encoder makes ", width, "; they belong to different models");
        latent.channels = static_cast<int>(net->out_channels());
        facts_.size_multiple = latent.factor * static_cast<int>(net->multiple());
    }
    device_.set_speed(options.speed);
    if (options.stream_layers == 1 && options.max_vram == 0)
        log(SDCPP_LOG_WARNING, "stream_layers is ignored without a memory budget; add max_vram");
    if (options.stream_layers == 1 && options.offload_to_cpu == 0)
        log(SDCPP_LOG_WARNING, "stream_layers is ignored while the weights stay on the device; add offload_to_cpu");
    begin();
}

void Model::begin() { memory_.begin(); }

void Model::require_size(int width, int height) const {
    const int multiple = facts_.size_multiple;
    for (const int side : {width, height})
        if (side < multiple || side > max_pixels_side || side % multiple != 0)
            fail(SDCPP_INVALID_ARGUMENT, "width and height are ", width, " x ", height, "; both must be multiples of ",
                 multiple, " from ", multiple, " to ", max_pixels_side);
}

RunReport Model::preview(const std::string& network, int width, int height, int batch, bool guided, int chunks) {
    const Use use = use_of(network, width, height, batch, guided, chunks);
    return executor(network).preview(use.inputs, use.selection);
}

// A network's inputs for a picture of this size. Their data are zeros, or missing.
Model::Use Model::use_of(const std::string& network, int width, int height, int batch, bool guided, int chunks) {
    constexpr int64_t usual_tokens = 96;  // a prompt's, if there are no chunks
    Executor& net = executor(network);
    if (batch < 1 || batch > max_together || chunks < 1 || chunks > 1000)
        fail(SDCPP_INVALID_ARGUMENT, "batch is 1 to ", max_together, ", chunks 1 to 1000");
    if (const NamedExecutor& named = find(network); named.role == Role::text_encoder) {
        const TextEncoder& encoder = net.as<TextEncoder>();
        const int64_t positions = encoder.traits().positions;
        const int64_t rows = positions > 0 ? std::min(chunks, chunks_together) : 1;
        const int64_t length = positions > 0 ? positions : filled_length(network).value_or(usual_tokens);
        const std::vector<int32_t> tokens(static_cast<size_t>(rows * length));
        return {encoder.inputs(tokens, rows), encoder.select({{0}, true})};
    }
    require_size(width, height);
    const int64_t h = height / facts_.latent.factor, w = width / facts_.latent.factor;
    if (&net == denoiser_) {
        const Denoiser& denoiser = denoiser_->as<Denoiser>();
        Conditioning conditioning;
        for (const Denoiser::Taken& taken : denoiser.conditioning()) {
            std::vector<int64_t> shape = {1, taken.width};
            if (taken.name == "context") shape.insert(shape.begin() + 1, text_tokens(chunks, usual_tokens));
            Array zeros{taken.name, GGML_TYPE_F32, std::move(shape)};
            zeros = Array::of(taken.name, zeros.shape, Floats(static_cast<size_t>(zeros.count())));
            conditioning.items.push_back({std::move(zeros)});
        }
        const auto count = static_cast<size_t>(batch * (guided ? 2 : 1));
        Noisy noisy;
        noisy.conditionings.assign(count, &conditioning);
        noisy.negative.assign(count, false);
        noisy.shape = {denoiser.in_channels(), 1, h, w};
        noisy.x.resize(count * static_cast<size_t>(noisy.shape.count()));
        noisy.timesteps.resize(count);
        noisy.picture_height = height;
        noisy.picture_width = width;
        if (denoiser.takes_guidance()) noisy.more.push_back(Array::of("guidance", {noisy.rows()}, Floats(count)));
        return {denoiser.inputs(noisy), {}};
    }
    if (find(network).role != Role::decoder) fail(SDCPP_INVALID_ARGUMENT, "no plan can be shown of '", network, "'");
    const int64_t tile = tile_sides(net, static_cast<int>(h), static_cast<int>(w), {});
    return {{{"x", GGML_TYPE_F32, {1, facts_.latent.channels, tile ? tile : h, tile ? tile : w}}}, {}};
}

int Model::pictures_together(int width, int height, int count, bool guided) {
    if (!denoiser_ || count < 2) return 1;
    const auto demand = [&](Role role, bool in_pairs) {
        for (const NamedExecutor& one : networks_)
            if (one.role == role) return one.executor->demand(use_of(one.name, width, height, 1, in_pairs, 1).inputs);
        return Executor::Demand{};
    };
    const Executor::Demand sampling = demand(Role::denoiser, guided);
    // Decoding one picture pushes weights out if both networks' do not fit together with the larger workspace.
    const Executor::Demand decoding = demand(Role::decoder, false);
    const uint64_t both = sampling.weights + decoding.weights + std::max(sampling.workspace, decoding.workspace);
    const bool stay = !sampling.streamed && !decoding.streamed && both <= sampling.limit;
    return stay ? 1 : std::min(count, pictures_streamed_together);
}

std::optional<RunReport> Model::take_report(const std::string& network) {
    Executor& net = executor(network);
    if (!net.has_run()) return std::nullopt;
    return net.take_report();
}

std::unique_lock<std::mutex> Model::start() {
    std::unique_lock lock(mutex_);
    cancelled_ = false;
    return lock;
}

std::vector<Executor*> Model::executors() const {
    std::vector<Executor*> out;
    for (const NamedExecutor& one : networks_) out.push_back(one.executor.get());
    return out;
}

std::vector<std::string> Model::networks() const {
    std::vector<std::string> out;
    for (const NamedExecutor& one : networks_) out.push_back(one.name);
    return out;
}

Executor* Model::by_role(Role role) const {
    for (const NamedExecutor& one : networks_)
        if (one.role == role) return one.executor.get();
    return nullptr;
}

Executor& Model::need(Role role) const {
    if (Executor* executor = by_role(role)) return *executor;
    for (const Component* component : components())
        for (const Component::NetworkRow& part : component->networks)
            if (part.role == role) return this->executor(std::string(part.name));  // which names the missing one
    fail(SDCPP_INTERNAL, "no component has this role");
}

bool Model::has(const std::string& network) const {
    return std::any_of(networks_.begin(), networks_.end(), [&](const auto& one) { return one.name == network; });
}

std::string Model::default_of(const std::string& option) const {
    const Json& own = files_.config()["defaults"][option];
    double number = 0;
    if (own.string()) return *own.string();
    if (own.number(number)) {
        std::ostringstream text;
        text << number;
        return text.str();
    }
    const Defaults defaults = family_.defaults(files_);
    const auto found = defaults.find(option);
    return found == defaults.end() ? "" : found->second;
}

std::vector<const TextEncoder*> Model::text_encoders(std::string* lacking) const {
    std::vector<const TextEncoder*> out;
    for (const std::string_view name : family_.text.encoders()) {
        const auto found =
            std::find_if(networks_.begin(), networks_.end(), [&](const auto& one) { return one.name == name; });
        if (found == networks_.end()) {
            if (lacking) *lacking = name;
            return {};
        }
        out.push_back(&found->executor->as<TextEncoder>());
    }
    return out;
}

// The width of the widest row of states that the family's recipe makes; 0 if an encoder is missing.
int64_t Model::text_width() const {
    if (text_encoders().empty()) return 0;
    int64_t widest = 0;
    for (const auto& row : family_.text.context) {
        int64_t width = 0;
        for (const TextStates& one : row)
            width += executor(std::string(one.encoder)).as<TextEncoder>().traits().width *
                     std::max<int64_t>(1, static_cast<int64_t>(one.layers_off.size()));
        widest = std::max(widest, width);
    }
    return widest;
}

std::optional<int64_t> Model::filled_length(const std::string& encoder) const {
    const auto length = family_.text.lengths.find(encoder);
    if (length == family_.text.lengths.end()) return std::nullopt;
    return length->second(files_);
}

// The tokens of a prompt of so many chunks, all rows of the recipe together; encoders without chunks count `usual`.
int64_t Model::text_tokens(int chunks, int64_t usual) const {
    int64_t tokens = 0;
    for (const auto& row : family_.text.context) {
        const std::string name(row.front().encoder);
        const int64_t positions = has(name) ? executor(name).as<TextEncoder>().traits().positions : 0;
        tokens += filled_length(name).value_or(positions > 0 ? chunks * positions : usual);
    }
    return tokens;
}

const Model::NamedExecutor& Model::find(const std::string& network) const {
    for (const NamedExecutor& one : networks_)
        if (one.name == network) return one;
    for (const Component* component : components())
        for (const Component::NetworkRow& part : component->networks)
            if (part.name == network)
                fail(SDCPP_MISSING_PART, "the model has no ", part.title, " (", network, "); give one with ",
                     OptionName{component->option, "…"});
    fail(SDCPP_INVALID_ARGUMENT, "unknown network '", network, "'");
}

Model::Memory Model::take_memory() {
    Memory memory;
    memory.peak = device_.memory().take_peak();
    for (Executor* executor : executors()) {
        memory.mapped += executor->mapped_weight_bytes();
        executor->rest();
    }
    return memory;
}

}  // namespace sdcpp
