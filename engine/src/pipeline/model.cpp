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
      files_(options.paths),
      device_(options.device, options.threads, &cancelled_, options.products),
      memory_(device_, Budget::from_gib(options.max_vram, options.whole_process)),
      family_(family_of(files_)) {
    const TypeRules types(options.wtype, options.tensor_type_rules);
    const StreamingOptions streaming{options.policy, options.stream_layers != 0, options.offload_to_cpu != 0,
                                     options.gpu_layers};
    for (auto& [name, network] : make_networks(files_)) {
        auto executor = std::make_unique<Executor>(device_, memory_, std::move(network), types, streaming);
        if (options.profile) executor->set_profile(&profile_);
        if (name == "vae.decoder")
            decoder_ = std::move(executor);
        else if (name == "vae.encoder")
            encoder_ = std::move(executor);
        else if (name == "taesd.decoder")
            tiny_decoder_ = std::move(executor);
        else if (name == "taesd.encoder")
            tiny_encoder_ = std::move(executor);
        else if (dynamic_cast<const Denoiser*>(&executor->network()))
            denoiser_ = std::move(executor);
        else
            texts_.push_back(std::move(executor));
    }

    for (const auto& text : texts_) {
        const auto& taken = family_.text_encoders;
        if (denoiser_ && std::find(taken.begin(), taken.end(), text->network().name()) == taken.end())
            log(SDCPP_LOG_WARNING, "the text encoder " + text->network().name() + " is not used by " + family_.title);
    }
    const Json& config = files_.config();
    const Json& scheduler = config["scheduler"];
    const char* own = family_.v_prediction(files_) ? "v_prediction" : "epsilon";
    facts_.v_prediction = !family_.flow && scheduler.string_or("prediction_type", own) == "v_prediction";
    facts_.latent_scale = config["vae"].number_or("scaling_factor", family_.latent_scale);
    facts_.latent_shift = config["vae"].number_or("shift_factor", family_.latent_shift);
    if (!(facts_.latent_scale > 0)) fail(SDCPP_UNSUPPORTED_MODEL, "the VAE's scaling_factor must be above 0");
    if (!family_.flow) {
        const bool zero_snr = files_.find("mark.ztsnr") || scheduler.boolean_or("rescale_betas_zero_snr", false);
        table_ = NoiseTable(scheduler.string_or("beta_schedule", "scaled_linear"),
                            scheduler.number_or("beta_start", 0.00085), scheduler.number_or("beta_end", 0.012),
                            static_cast<int>(scheduler.number_or("num_train_timesteps", 1000)), zero_snr);
        table_.aligned_sigmas = family_.aligned_sigmas;
    }
    if (decoder_) {
        facts_.latent_channels = static_cast<int>(decoder_->as<VaeDecoder>().latent_channels());
        facts_.latent_factor = static_cast<int>(decoder_->as<VaeDecoder>().factor());
    }
    if (const Denoiser* net = denoiser()) {
        if (decoder_ && net->out_channels() != facts_.latent_channels)
            fail(SDCPP_UNSUPPORTED_MODEL, "the diffusion model makes latents of ", net->out_channels(),
                 " channels, the VAE takes ", facts_.latent_channels);
        if (net->in_channels() != net->out_channels())
            fail(SDCPP_UNSUPPORTED_MODEL, "a UNet with ", net->in_channels(),
                 " input channels (inpainting or image editing): not supported yet");
        int64_t width = 0;
        for (const TextEncoder* text : text_encoders()) width += text->traits().width;
        if (width > 0 && width != net->context_width())
            fail(SDCPP_UNSUPPORTED_MODEL, "the diffusion model takes text states ", net->context_width(),
                 " wide, the text encoder makes ", width, "; they belong to different models");
        facts_.latent_channels = static_cast<int>(net->out_channels());
        facts_.size_multiple = facts_.latent_factor * static_cast<int>(net->multiple());
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

// What a network is given for a picture of this size; the inputs' data are zeros, or missing.
Model::Use Model::use_of(const std::string& network, int width, int height, int batch, bool guided, int chunks) {
    constexpr int64_t usual_tokens = 96;  // of a prompt, where there are no chunks
    Executor& net = executor(network);
    if (batch < 1 || batch > most_together || chunks < 1 || chunks > 1000)
        fail(SDCPP_INVALID_ARGUMENT, "batch is 1 to ", most_together, ", chunks 1 to 1000");
    for (const auto& text : texts_) {
        if (text.get() != &net) continue;
        const TextEncoder& encoder = text->as<TextEncoder>();
        const int64_t positions = encoder.traits().positions;
        const int64_t rows = positions > 0 ? std::min(chunks, chunks_together) : 1;
        const std::vector<int32_t> tokens(static_cast<size_t>(rows * (positions > 0 ? positions : usual_tokens)));
        return {encoder.inputs(tokens, rows), encoder.select(1, true, false)};
    }
    require_size(width, height);
    const int64_t h = height / facts_.latent_factor, w = width / facts_.latent_factor;
    if (&net == denoiser_.get()) {
        int64_t tokens = usual_tokens;
        for (const TextEncoder* text : text_encoders())
            if (text->traits().positions > 0) tokens = chunks * text->traits().positions;
        const Denoiser& denoiser = denoiser_->as<Denoiser>();
        Conditioning said;
        said.states.shape = {1, 1, tokens, denoiser.context_width()};
        said.states.data.resize(static_cast<size_t>(tokens * denoiser.context_width()));
        said.pooled.resize(static_cast<size_t>(denoiser.pooled_width()));
        const auto count = static_cast<size_t>(batch * (guided ? 2 : 1));
        Noisy noisy{std::vector<Noisy::Item>(count, {&said, false}), h, w, {}, Floats(count, 0.0f), height, width};
        noisy.x.resize(count * static_cast<size_t>(denoiser.in_channels() * h * w));
        return {denoiser.inputs(noisy), {}};
    }
    if (network != "vae.decoder") fail(SDCPP_INVALID_ARGUMENT, "no plan can be shown of '", network, "'");
    const int64_t tile = tile_sides(net, static_cast<int>(h), static_cast<int>(w), {});
    return {{{"x", GGML_TYPE_F32, {1, facts_.latent_channels, tile ? tile : h, tile ? tile : w}}}, {}};
}

int Model::pictures_together(int width, int height, int count, bool guided) {
    if (!denoiser_ || count < 2) return 1;
    const auto demand = [&](const std::string& network, bool in_pairs) {
        return executor(network).demand(use_of(network, width, height, 1, in_pairs, 1).inputs);
    };
    const Executor::Demand sampling = demand(denoiser_->network().name(), guided);
    // Decoding one picture pushes weights out if both networks' do not stay beside the larger workspace.
    const Executor::Demand decoding = decoder_ ? demand("vae.decoder", false) : Executor::Demand{};
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
    for (const auto& text : texts_) out.push_back(text.get());
    for (const auto* executor : {&denoiser_, &decoder_, &encoder_, &tiny_decoder_, &tiny_encoder_})
        if (*executor) out.push_back(executor->get());
    return out;
}

std::vector<std::string> Model::networks() const {
    std::vector<std::string> out;
    for (const auto& text : texts_) out.push_back(text->network().name());
    if (denoiser_) out.push_back(denoiser_->network().name());
    for (const char* name : {"vae.decoder", "vae.encoder", "taesd.decoder", "taesd.encoder"})
        if (has(name)) out.emplace_back(name);
    return out;
}

bool Model::has(const std::string& network) const {
    try {
        executor(network);
        return true;
    } catch (const Error&) {
        return false;
    }
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
    const auto defaults = family_.defaults(files_);
    const auto found = defaults.find(option);
    return found == defaults.end() ? "" : found->second;
}

std::vector<const TextEncoder*> Model::text_encoders(std::string* lacking) const {
    std::vector<const TextEncoder*> out;
    for (const std::string& name : family_.text_encoders) {
        const auto found = std::find_if(texts_.begin(), texts_.end(),
                                        [&](const auto& text) { return text->network().name() == name; });
        if (found == texts_.end()) {
            if (lacking) *lacking = name;
            return {};
        }
        out.push_back(&(*found)->template as<TextEncoder>());
    }
    return out;
}

Executor& Model::need(const std::unique_ptr<Executor>& executor, const char* what) const {
    if (!executor) fail(SDCPP_MISSING_PART, "the model has no ", what, "; give a file that holds one");
    return *executor;
}

Executor& Model::executor(const std::string& network) const {
    for (const auto& text : texts_)
        if (text->network().name() == network) return *text;
    if (denoiser_ && denoiser_->network().name() == network) return *denoiser_;
    const auto& encoders = text_encoder_names();
    if (std::find(encoders.begin(), encoders.end(), network) != encoders.end())
        fail(SDCPP_MISSING_PART, "the model has no text encoder ", network, "; give one with text_encoders=…");
    if (network == "unet" || network == "z_image")
        fail(SDCPP_MISSING_PART, "the model has no diffusion model ", network, "; give a file that holds one");
    if (network == "vae.decoder") return need(decoder_, "VAE decoder (vae=…)");
    if (network == "vae.encoder") return need(encoder_, "VAE encoder (vae=…)");
    if (network == "taesd.decoder") return need(tiny_decoder_, "TAESD decoder (taesd=…)");
    if (network == "taesd.encoder") return need(tiny_encoder_, "TAESD encoder (taesd=…)");
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
