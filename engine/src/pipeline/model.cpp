#include "pipeline/model.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <functional>
#include <numeric>
#include <sstream>

#include "base/error.h"
#include "base/log.h"
#include "base/names.h"
#include "pipeline/tiling.h"

namespace sdcpp {
namespace {

constexpr int default_tile = 64;
constexpr int smallest_tile = 8;
constexpr int tile_above = 96;  // latent sides past which tiling is automatic
constexpr int max_pixels_side = 16384;
constexpr int most_together = 64;                     // pictures sampled together
constexpr int chunks_together = 8;                    // of a prompt, encoded together
constexpr int64_t most_tokens = 77000;                // of a prompt
constexpr uint64_t budget_step = uint64_t{64} << 20;  // budgets that follow free memory do not change with every page

void require_finite(const Floats& values, const char* what) {
    for (const float value : values)
        if (!std::isfinite(value))
            fail(
                SDCPP_NOT_FINITE, what,
                " contain NaN or infinity; the weights may be damaged, or a type too coarse for them: try wtype='f32'");
}

// One generator for each picture of a batch, so that a picture does not depend on what is made beside it.
class BatchRng : public Rng {
  public:
    BatchRng(const std::string& name, uint64_t seed, int batch) {
        for (int i = 0; i < batch; ++i) each_.push_back(make_rng(name, seed + static_cast<uint64_t>(i)));
    }
    void normal(std::span<float> out) override {
        const size_t part = out.size() / each_.size();
        for (size_t i = 0; i < each_.size(); ++i) each_[i]->normal(out.subspan(i * part, part));
    }

  private:
    std::vector<std::unique_ptr<Rng>> each_;
};

// Multiplies each token's states by its weight and restores the mean of them all.
void weigh(std::span<float> states, std::span<const float> weights) {
    const auto mean = [&] {
        double sum = 0;
        for (const float value : states) sum += value;
        return sum / static_cast<double>(states.size());
    };
    const double before = mean();
    const size_t width = states.size() / weights.size();
    for (size_t i = 0; i < states.size(); ++i) states[i] *= weights[i / width];
    const double after = mean();
    // a mean that vanishes cannot be restored by a factor
    if (const double ratio = before / after; std::isfinite(ratio) && ratio > 0 && ratio < 100)
        for (float& value : states) value = static_cast<float>(value * ratio);
}

void require_tokens(std::span<const int32_t> tokens, int64_t vocabulary) {
    for (const int32_t token : tokens)
        if (token < 0 || token >= vocabulary)
            fail(SDCPP_INVALID_ARGUMENT, "token ", token, " is outside the text encoder's vocabulary of ", vocabulary);
}

}  // namespace

Model::Model(const ModelOptions& options)
    : options_(options),
      files_(options.paths),
      device_(options.device, options.threads, &cancelled_, options.blas),
      family_(family_of(files_)) {
    const TypeRules types(options.wtype, options.tensor_type_rules);
    for (auto& [name, network] : make_networks(files_)) {
        auto executor = std::make_unique<Executor>(device_, std::move(network), types);
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

void Model::begin() {
    MemoryOptions memory;
    memory.policy = options_.policy;
    memory.stream_layers = options_.stream_layers != 0;
    memory.offload_to_cpu = options_.offload_to_cpu != 0;
    memory.most_resident = options_.gpu_layers;
    constexpr double gib = 1 << 30;
    if (options_.max_vram >= 0) memory.budget_bytes = static_cast<uint64_t>(options_.max_vram * gib);
    if (options_.max_vram < 0) {
        const double free = static_cast<double>(device_.free_bytes() + device_.memory().held());
        const double left = free + options_.max_vram * gib;
        memory.budget_bytes = left > 0 ? static_cast<uint64_t>(left) / budget_step * budget_step : 0;
        if (*memory.budget_bytes == 0)
            log(SDCPP_LOG_WARNING, "max_vram leaves nothing of the " +
                                       std::to_string(static_cast<uint64_t>(free) >> 20) + " MiB that are free on " +
                                       device_.name() + ": no budget is kept");
    }
    for (Executor* executor : executors()) {
        executor->set_memory(memory, [this, executor] {
            for (Executor* other : executors())
                if (other != executor) other->release(true);
        });
    }
}

void Model::require_size(int width, int height) const {
    const int multiple = facts_.size_multiple;
    for (const int side : {width, height})
        if (side < multiple || side > max_pixels_side || side % multiple != 0)
            fail(SDCPP_INVALID_ARGUMENT, "width and height are ", width, " x ", height, "; both must be multiples of ",
                 multiple, " from ", multiple, " to ", max_pixels_side);
}

RunReport Model::preview(const std::string& network, int width, int height, int batch, bool guided, int chunks) {
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
        return net.preview(encoder.inputs(tokens, rows), encoder.select(1, true, false));
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
        return net.preview(denoiser.inputs(noisy));
    }
    if (network != "vae.decoder") fail(SDCPP_INVALID_ARGUMENT, "no plan can be shown of '", network, "'");
    const int64_t tile = tile_sides(net, static_cast<int>(h), static_cast<int>(w), {});
    return net.preview({{"x", GGML_TYPE_F32, {1, facts_.latent_channels, tile ? tile : h, tile ? tile : w}}});
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

// One text encoder's states [1, 1, T, C], and what it says of the whole text into `pooled` where that is not null.
Output Model::encode_states(Executor& executor, const PromptTokens& tokens, int clip_skip, Floats* pooled) {
    const TextEncoder& encoder = executor.as<TextEncoder>();
    const TextEncoder::Traits traits = encoder.traits();
    const int64_t positions = traits.positions > 0 ? traits.positions : static_cast<int64_t>(tokens.ids.size());
    const auto count = static_cast<int64_t>(tokens.ids.size());
    if (tokens.chunks < 1 || tokens.chunks > 1000 || count != tokens.chunks * positions || count > most_tokens)
        fail(SDCPP_INVALID_ARGUMENT, encoder.name(), " takes tokens [chunks, ", positions, "] with 1 to 1000 chunks, ",
             most_tokens, " at most");
    if (clip_skip < 1 || clip_skip > traits.layers)
        fail(SDCPP_INVALID_ARGUMENT, "clip_skip is ", clip_skip, "; this text encoder has ", traits.layers,
             " layers, so 1 to ", traits.layers, " are possible");
    require_tokens(tokens.ids, traits.vocabulary);
    Output all;
    all.shape = {1, 1, count, traits.width};
    for (int first = 0; first < tokens.chunks; first += chunks_together) {
        const int64_t rows = std::min(chunks_together, tokens.chunks - first);
        const auto part =
            tokens.ids.subspan(static_cast<size_t>(first * positions), static_cast<size_t>(rows * positions));
        std::vector<Output> out = executor.run(encoder.inputs(part, rows),
                                               encoder.select(clip_skip, family_.normed_states, pooled != nullptr));
        Floats& states = out.front().data;
        require_finite(states, "the text encoder's states");
        if (tokens.weights)
            for (int64_t i = 0; i < rows; ++i)
                weigh({states.data() + i * positions * traits.width, static_cast<size_t>(positions * traits.width)},
                      {tokens.weights + (first + i) * positions, static_cast<size_t>(positions)});
        all.data.insert(all.data.end(), states.begin(), states.end());
        if (pooled && first == 0) {  // of a long text, its beginning
            const Output& whole = out.back();
            pooled->assign(whole.data.begin(), whole.data.begin() + whole.shape.back());
        }
    }
    return all;
}

Conditioning Model::encode_prompt(std::span<const PromptTokens> tokens, int clip_skip, bool nothing) {
    std::string lacking;
    const auto encoders = text_encoders(&lacking);
    if (encoders.empty())
        fail(SDCPP_MISSING_PART, "the model has no text encoder ", lacking, "; give one with text_encoders=…");
    if (tokens.size() != encoders.size())
        fail(SDCPP_INVALID_ARGUMENT, family_.title, " takes tokens for ", encoders.size(), " text encoders");
    Conditioning out;
    if (nothing && family_.zeros_for_nothing && denoiser_) {
        const Denoiser& net = denoiser_->as<Denoiser>();
        const auto count = static_cast<int64_t>(tokens.front().ids.size());
        out.states.shape = {1, 1, count, net.context_width()};
        out.states.data.resize(static_cast<size_t>(count * net.context_width()));
        out.pooled.resize(static_cast<size_t>(net.pooled_width()));
        return out;
    }
    std::vector<Output> parts;
    const bool pooled = denoiser_ && denoiser_->as<Denoiser>().pooled_width() > 0;
    for (size_t i = 0; i < encoders.size(); ++i) {
        const bool last = i + 1 == encoders.size();
        parts.push_back(
            encode_states(executor(encoders[i]->name()), tokens[i], clip_skip, pooled && last ? &out.pooled : nullptr));
        if (parts[i].shape[2] != parts[0].shape[2])
            fail(SDCPP_INVALID_ARGUMENT, "a prompt must have as many chunks for every text encoder");
    }
    if (pooled && static_cast<int64_t>(out.pooled.size()) != denoiser_->as<Denoiser>().pooled_width())
        fail(SDCPP_UNSUPPORTED_MODEL, "the text encoder says ", out.pooled.size(),
             " values of a whole text, the UNet takes ", denoiser_->as<Denoiser>().pooled_width(),
             "; they belong to different models");
    if (parts.size() == 1) {
        out.states = std::move(parts.front());
        return out;
    }
    out.states.shape = parts.front().shape;
    out.states.shape[3] = 0;
    for (const Output& part : parts) out.states.shape[3] += part.shape[3];
    for (int64_t token = 0; token < out.states.shape[2]; ++token)
        for (const Output& part : parts) {
            const auto row = part.data.begin() + token * part.shape[3];
            out.states.data.insert(out.states.data.end(), row, row + part.shape[3]);
        }
    return out;
}

// The network's prediction for the latents `x` with each of `conditionings`, those of the first before the second's.
Floats Model::predict(const Floats& x, double sigma, const SampleOptions& options,
                      std::vector<Noisy::Item> conditionings) {
    const Denoiser& net = denoiser_->as<Denoiser>();
    const double scale = family_.flow ? 1 : 1 / std::sqrt(sigma * sigma + 1);
    Noisy noisy;
    noisy.height = options.height / facts_.latent_factor;
    noisy.width = options.width / facts_.latent_factor;
    noisy.picture_height = options.height;
    noisy.picture_width = options.width;
    for (const Noisy::Item& item : conditionings) {
        noisy.items.insert(noisy.items.end(), static_cast<size_t>(options.batch), item);
        for (const float value : x) noisy.x.push_back(static_cast<float>(value * scale));
    }
    noisy.timesteps.assign(noisy.items.size(), static_cast<float>(table_.timestep_of(sigma)));
    Output result = denoiser_->run(net.inputs(noisy));
    return net.prediction(std::move(result), noisy);
}

// The family's levels of noise, moved for a flow by what the user, the config or the family says.
NoiseTable Model::noise_table(const SampleOptions& options) const {
    if (!family_.flow) return table_;
    const Json& config = files_.config()["scheduler"];
    double shift = config.number_or("shift", family_.flow_shift);
    if (config.boolean_or("use_dynamic_shifting", false)) {  // by the number of patches of 2x2, linear in its logarithm
        const double patches = static_cast<double>(options.height / facts_.latent_factor / 2) *
                               static_cast<double>(options.width / facts_.latent_factor / 2);
        const double few = config.number_or("base_image_seq_len", 256),
                     many = config.number_or("max_image_seq_len", 4096);
        const double low = config.number_or("base_shift", 0.5), high = config.number_or("max_shift", 1.15);
        shift = std::exp(low + (high - low) * (patches - few) / (many - few));
    }
    return NoiseTable::flow(options.flow_shift > 0 ? options.flow_shift : shift);
}

Floats Model::sample(const SampleOptions& options) {
    if (!denoiser_) fail(SDCPP_MISSING_PART, "the model has no diffusion model (UNet …); give a file that holds one");
    const Denoiser& net = denoiser_->as<Denoiser>();
    require_size(options.width, options.height);
    if (!options.cond) fail(SDCPP_INVALID_ARGUMENT, "a conditioning is needed");
    if (!std::isfinite(options.cfg_scale)) fail(SDCPP_INVALID_ARGUMENT, "cfg_scale must be a finite number");
    if (options.batch < 1 || options.batch > most_together)
        fail(SDCPP_INVALID_ARGUMENT, "batch is ", options.batch, "; 1 to ", most_together, " are possible");
    const bool guided = options.cfg_scale != 1;
    if (guided && !options.uncond)
        fail(SDCPP_INVALID_ARGUMENT, "cfg_scale other than 1 needs an unconditional conditioning");
    for (const Conditioning* said : {options.cond, options.uncond})
        if (said && (said->states.shape[3] != net.context_width() ||
                     static_cast<int64_t>(said->pooled.size()) != net.pooled_width()))
            fail(SDCPP_INVALID_ARGUMENT, "the conditioning comes from another model");

    BatchRng rng(options.rng, options.seed, options.batch);
    const size_t one = static_cast<size_t>(facts_.latent_channels) *
                       static_cast<size_t>(options.width / facts_.latent_factor) *
                       static_cast<size_t>(options.height / facts_.latent_factor);
    Floats x(one * static_cast<size_t>(options.batch));
    table_ = noise_table(options);
    std::vector<double> sigmas = make_sigmas(options.scheduler, options.steps, table_);
    if (options.noise) {
        for (int i = 0; i < options.batch; ++i)
            std::copy_n(options.noise, one, x.begin() + i * static_cast<std::ptrdiff_t>(one));
    } else {
        rng.normal(x);
    }
    for (float& value : x) value = static_cast<float>(value * sigmas.front());

    // What prompt and negative prompt say goes through the network together where it can.
    const Noisy::Item wanted{options.cond, false}, unwanted{options.uncond, true};
    const bool together = guided && (net.mixes_lengths() || options.cond->states.shape == options.uncond->states.shape);
    const auto denoise = [&](const Floats& noisy, double sigma) {
        Floats prediction, free;
        if (together) {
            prediction = predict(noisy, sigma, options, {wanted, unwanted});
            free.assign(prediction.begin() + static_cast<std::ptrdiff_t>(noisy.size()), prediction.end());
        } else {
            prediction = predict(noisy, sigma, options, {wanted});
            if (guided) free = predict(noisy, sigma, options, {unwanted});
        }
        Floats clean(noisy.size());
        const double shrink = 1 / (sigma * sigma + 1);
        for (size_t i = 0; i < clean.size(); ++i) {
            const double value = guided ? free[i] + options.cfg_scale * (prediction[i] - free[i]) : prediction[i];
            clean[i] = static_cast<float>(facts_.v_prediction ? noisy[i] * shrink - value * sigma * std::sqrt(shrink)
                                                              : noisy[i] - sigma * value);
        }
        require_finite(clean, "the latents");
        return clean;
    };

    const auto begin = std::chrono::steady_clock::now();
    const int steps = static_cast<int>(sigmas.size()) - 1;
    SamplerRun run{denoise, std::move(sigmas), rng, options.eta, family_.flow};
    run.after_step = [&](size_t step, const Floats& denoised) {
        const std::chrono::duration<double> passed = std::chrono::steady_clock::now() - begin;
        if (options.callback && !options.callback(static_cast<int>(step), steps, passed.count(), denoised))
            fail(SDCPP_CANCELLED, "stopped by the callback");
    };
    run_sampler(options.sampler, run, x);
    require_finite(x, "the latents");
    return x;
}

// Latent sides of the tiles to decode in; 0: in one piece. Without the user's word, tiles are as small as memory wants.
int Model::tile_sides(Executor& decoder, int height, int width, const DecodeOptions& options) {
    if (options.tile > 0 && options.tile < smallest_tile)
        fail(SDCPP_INVALID_ARGUMENT, "a tile must be ", smallest_tile, " or more latent sides");
    if (options.tiling == 0) return 0;
    const auto fits = [&](int64_t h, int64_t w) {
        return decoder.fits({{"x", GGML_TYPE_F32, {1, facts_.latent_channels, h, w}}});
    };
    const bool large = height > tile_above || width > tile_above;
    const bool budgeted = options_.max_vram != 0;
    if (options.tiling < 0 && !large && (!budgeted || fits(height, width))) return 0;
    if (options.tile > 0) return options.tile;
    int tile = default_tile;
    while (budgeted && tile > smallest_tile && !fits(tile, tile)) tile /= 2;
    return tile;
}

Floats Model::decode(const DecodeOptions& options, std::span<const float> latent, int height, int width) {
    Executor& decoder = executor(options.taesd ? "taesd.decoder" : "vae.decoder");
    const int channels = facts_.latent_channels, factor = facts_.latent_factor;
    if (height < 1 || width < 1 || height > max_pixels_side / factor || width > max_pixels_side / factor)
        fail(SDCPP_INVALID_ARGUMENT, "latents of ", height, " x ", width, " cannot be decoded");
    int tile = tile_sides(decoder, height, width, options);
    const double share = options.overlap < 0 ? 0.25 : options.overlap;
    if (!(share <= 0.5)) fail(SDCPP_INVALID_ARGUMENT, "the overlap of tiles must be 0 to 0.5");
    const auto scale = static_cast<float>(1 / facts_.latent_scale), shift = static_cast<float>(facts_.latent_shift);
    const auto whole = [&](std::vector<float> part, int h, int w) {
        if (!options.taesd)
            for (float& value : part) value = value * scale + shift;
        Floats picture = decoder.run({{"x", GGML_TYPE_F32, {1, channels, h, w}, part.data()}}).data;
        if (options.taesd)
            for (float& value : picture) value = value * 2 - 1;
        require_finite(picture, "the decoded pixels");
        return picture;
    };
    while (true) {
        try {
            if (tile == 0) return whole({latent.begin(), latent.end()}, height, width);
            return decode_tiled({tile, static_cast<int>(tile * share), factor, channels, 3}, latent, height, width,
                                whole);
        } catch (const OverBudget&) {
            if (options.tiling == 0 || options.tile > 0 || tile == smallest_tile) throw;
        } catch (const Error& problem) {
            const bool memory = problem.status() == SDCPP_OUT_OF_MEMORY;
            if (!memory || options.tiling == 0 || options.tile > 0 || tile == smallest_tile) throw;
        }
        tile = tile == 0 ? default_tile : tile / 2;
        log(SDCPP_LOG_INFO, "too little memory: decoding in tiles of " + std::to_string(tile) + " latent sides");
    }
}

Floats Model::encode(std::span<const float> picture, int height, int width) {
    Executor& encoder = executor("vae.encoder");
    const int factor = static_cast<int>(encoder.as<VaeEncoder>().factor());
    if (height < factor || width < factor || height % factor || width % factor || height > max_pixels_side ||
        width > max_pixels_side)
        fail(SDCPP_INVALID_ARGUMENT, "pictures of ", width, " x ", height,
             " cannot be encoded; sides must be multiples of ", factor);
    Floats latent = encoder.run({{"x", GGML_TYPE_F32, {1, 3, height, width}, picture.data()}}).data;
    latent.resize(latent.size() / 2);  // the mean; the log variance follows it
    for (float& value : latent) value = static_cast<float>((value - facts_.latent_shift) * facts_.latent_scale);
    require_finite(latent, "the latents");
    return latent;
}

// One evaluation as a user gives it: x [N, C, H, W], timesteps [N], context [N, T, D] and, where the family takes it,
// an input "pooled" [N, P].
Output Model::evaluate_denoiser(const Input& x, const Input& timesteps, const Input& context,
                                const std::vector<Input>& inputs) {
    const Denoiser& net = denoiser_->as<Denoiser>();
    const int64_t batch = x.shape[0];
    const auto pooled = std::find_if(inputs.begin(), inputs.end(), [](const Input& i) { return i.name == "pooled"; });
    const bool complete = net.pooled_width() == 0 ||
                          (pooled != inputs.end() && pooled->shape == std::vector<int64_t>{batch, net.pooled_width()});
    if (x.shape[1] != net.in_channels() || x.shape[2] % net.multiple() || x.shape[3] % net.multiple() ||
        context.shape[0] != batch || context.shape[2] != net.context_width() || timesteps.shape[0] != batch ||
        !complete)
        fail(SDCPP_INVALID_ARGUMENT, net.name(), " takes x [N, ", net.in_channels(),
             ", H, W] with sides in multiples of ", net.multiple(), ", timesteps [N], context [N, T, ",
             net.context_width(), "]",
             net.pooled_width() > 0 ? " and pooled [N, " + std::to_string(net.pooled_width()) + "]" : "");
    const auto values = [](const Input& from, int64_t row) {
        const int64_t each = std::accumulate(from.shape.begin() + 1, from.shape.end(), int64_t{1}, std::multiplies<>());
        const float* first = static_cast<const float*>(from.data) + row * each;
        return Floats(first, first + each);
    };
    std::vector<Conditioning> said(static_cast<size_t>(batch));
    Noisy noisy;
    noisy.height = x.shape[2];
    noisy.width = x.shape[3];
    noisy.picture_height = static_cast<int>(x.shape[2]) * facts_.latent_factor;
    noisy.picture_width = static_cast<int>(x.shape[3]) * facts_.latent_factor;
    for (int64_t row = 0; row < batch; ++row) {
        Conditioning& one = said[static_cast<size_t>(row)];
        one.states = {{1, 1, context.shape[1], context.shape[2]}, values(context, row)};
        if (net.pooled_width() > 0) one.pooled = values(*pooled, row);
        noisy.items.push_back({&one, false});
        const Floats latent = values(x, row);
        noisy.x.insert(noisy.x.end(), latent.begin(), latent.end());
        noisy.timesteps.push_back(static_cast<const float*>(timesteps.data)[row]);
    }
    Output out = denoiser_->run(net.inputs(noisy));
    return {{batch, net.out_channels(), noisy.height, noisy.width}, net.prediction(std::move(out), noisy)};
}

Output Model::evaluate(const std::string& network, std::vector<Input> inputs) {
    Executor& net = executor(network);
    const auto input = [&](const char* name, size_t dimensions) -> Input& {
        for (Input& one : inputs) {
            if (one.name != name) continue;
            if (one.shape.size() != dimensions)
                fail(SDCPP_INVALID_ARGUMENT, network, ": ", name, " must have ", dimensions, " dimensions");
            for (const int64_t side : one.shape)
                if (side < 1 || side > 65536) fail(SDCPP_INVALID_ARGUMENT, network, ": a side of ", name, " is ", side);
            return one;
        }
        fail(SDCPP_INVALID_ARGUMENT, network, " takes an input ", name);
    };
    for (const auto& text : texts_) {
        if (text.get() != &net) continue;
        const TextEncoder& encoder = net.as<TextEncoder>();
        const TextEncoder::Traits traits = encoder.traits();
        const Input& tokens = input("tokens", 2);
        if (traits.positions > 0 && tokens.shape[1] != traits.positions)
            fail(SDCPP_INVALID_ARGUMENT, "tokens must be [N, ", traits.positions, "]");
        const std::span<const int32_t> ids(static_cast<const int32_t*>(tokens.data),
                                           static_cast<size_t>(tokens.shape[0] * tokens.shape[1]));
        require_tokens(ids, traits.vocabulary);
        return std::move(net.run(encoder.inputs(ids, tokens.shape[0]), encoder.select(1, true, false)).front());
    }
    const Input& x = input("x", 4);
    if (&net == denoiser_.get()) return evaluate_denoiser(x, input("timesteps", 1), input("context", 3), inputs);
    const bool encodes = network.ends_with("encoder");
    const int64_t channels = encodes ? 3 : facts_.latent_channels;
    if (x.shape[1] != channels || (encodes && (x.shape[2] % facts_.latent_factor || x.shape[3] % facts_.latent_factor)))
        fail(SDCPP_INVALID_ARGUMENT, network, " takes x [N, ", channels, ", H, W]",
             encodes ? " with sides in multiples of the latent factor" : "");
    return net.run({x});
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
