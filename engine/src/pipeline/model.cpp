#include "pipeline/model.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <limits>

#include "base/error.h"
#include "base/log.h"
#include "models/taesd.h"
#include "pipeline/tiling.h"
#include "sampling/names.h"

namespace sdcpp {
namespace {

constexpr int default_tile = 64;
constexpr int smallest_tile = 8;
constexpr int tile_above = 96;  // latent sides past which tiling is automatic
constexpr int max_pixels_side = 16384;
constexpr int most_together = 64;                     // pictures sampled together
constexpr int chunks_together = 8;                    // of a prompt, encoded together
constexpr uint64_t budget_step = uint64_t{64} << 20;  // budgets that follow free memory do not change with every page

ggml_type wanted_type(const std::string& name) {
    if (name.empty()) return GGML_TYPE_COUNT;
    std::vector<std::string> known;
    for (int type = 0; type < GGML_TYPE_COUNT; ++type) {
        const auto ggml = static_cast<ggml_type>(type);
        const bool plain = ggml == GGML_TYPE_F32 || ggml == GGML_TYPE_F16 || ggml == GGML_TYPE_BF16;
        const ggml_type_traits* traits = ggml_get_type_traits(ggml);
        const bool quantizes = ggml_is_quantized(ggml) && traits->to_float && traits->from_float_ref &&
                               !ggml_quantize_requires_imatrix(ggml);
        if (ggml_type_name(ggml) && (plain || quantizes)) known.emplace_back(ggml_type_name(ggml));
    }
    return to_ggml(*dtype_from_name(require_name("wtype", name, known)));
}

template <typename Net, typename... Arguments>
std::unique_ptr<Executor> executor_for(Device& device, ggml_type wanted, Arguments&&... arguments) {
    return std::make_unique<Executor>(device, std::make_unique<Net>(std::forward<Arguments>(arguments)...), wanted);
}

// A lower triangle: each token sees itself and those before it. f16, zeros and minus infinities.
std::vector<ggml_fp16_t> causal_mask(int64_t tokens) {
    std::vector<ggml_fp16_t> mask(static_cast<size_t>(tokens * tokens), ggml_fp32_to_fp16(0));
    const ggml_fp16_t hidden = ggml_fp32_to_fp16(-std::numeric_limits<float>::infinity());
    for (int64_t row = 0; row < tokens; ++row)
        for (int64_t column = row + 1; column < tokens; ++column)
            mask[static_cast<size_t>(row * tokens + column)] = hidden;
    return mask;
}

// Sinusoids of a timestep, cosines first (Ho et al. 2020; the order is Stable Diffusion's).
Floats timestep_embedding(std::span<const float> timesteps, int64_t width) {
    Floats out;
    const int64_t half = width / 2;
    for (const float t : timesteps) {
        Floats row(static_cast<size_t>(width), 0.0f);
        for (int64_t i = 0; i < half; ++i) {
            const double angle = t * std::exp(-std::log(10000.0) * static_cast<double>(i) / static_cast<double>(half));
            row[static_cast<size_t>(i)] = static_cast<float>(std::cos(angle));
            row[static_cast<size_t>(half + i)] = static_cast<float>(std::sin(angle));
        }
        out.insert(out.end(), row.begin(), row.end());
    }
    return out;
}

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
    : options_(options), files_(options.paths), device_(options.device, options.threads, &cancelled_, options.blas) {
    const ggml_type wanted = wanted_type(options.wtype);
    if (files_.has_prefix("clip_l.")) text_ = executor_for<ClipText>(device_, wanted, files_);
    if (files_.has_prefix("unet.")) unet_ = executor_for<UNet>(device_, wanted, files_);
    if (files_.has_prefix("vae.decoder.")) decoder_ = executor_for<VaeDecoder>(device_, wanted, files_);
    if (files_.has_prefix("vae.encoder.")) encoder_ = executor_for<VaeEncoder>(device_, wanted, files_);
    if (files_.has_prefix("taesd.decoder."))
        tiny_decoder_ = executor_for<Taesd>(device_, wanted, files_, Taesd::Side::decoder);
    if (files_.has_prefix("taesd.encoder."))
        tiny_encoder_ = executor_for<Taesd>(device_, wanted, files_, Taesd::Side::encoder);
    if (executors().empty())
        fail(SDCPP_UNSUPPORTED_MODEL,
             "none of the known networks was found in the files given; known are Stable Diffusion 1.x checkpoints, "
             "diffusers folders of them, and single parts (UNet, VAE, text encoder, TAESD)");

    const Json& config = files_.config();
    const Json& scheduler = config["scheduler"];
    facts_.v_prediction = scheduler.string_or("prediction_type", "epsilon") == "v_prediction";
    facts_.scaling_factor = config["vae"].number_or("scaling_factor", 0.18215);
    if (!(facts_.scaling_factor > 0)) fail(SDCPP_UNSUPPORTED_MODEL, "the VAE's scaling_factor must be above 0");
    table_ = NoiseTable(scheduler.string_or("beta_schedule", "scaled_linear"),
                        scheduler.number_or("beta_start", 0.00085), scheduler.number_or("beta_end", 0.012),
                        static_cast<int>(scheduler.number_or("num_train_timesteps", 1000)));
    if (decoder_) {
        facts_.latent_channels = static_cast<int>(decoder_->as<VaeDecoder>().latent_channels());
        facts_.latent_factor = static_cast<int>(decoder_->as<VaeDecoder>().factor());
    }
    if (unet_) {
        const UNet& net = unet_->as<UNet>();
        if (decoder_ && net.out_channels() != facts_.latent_channels)
            fail(SDCPP_UNSUPPORTED_MODEL, "the UNet makes latents of ", net.out_channels(), " channels, the VAE takes ",
                 facts_.latent_channels);
        if (net.in_channels() != net.out_channels())
            fail(SDCPP_UNSUPPORTED_MODEL, "a UNet with ", net.in_channels(),
                 " input channels (inpainting or image editing): not supported yet");
        if (text_ && text_->as<ClipText>().width() != net.context_width())
            fail(SDCPP_UNSUPPORTED_MODEL, "the UNet takes text states ", net.context_width(),
                 " wide, the text encoder makes ", text_->as<ClipText>().width(), "; they belong to different models");
        facts_.latent_channels = static_cast<int>(net.out_channels());
        facts_.size_multiple = facts_.latent_factor * static_cast<int>(net.multiple());
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
    Executor& net = executor(network);
    if (batch < 1 || batch > most_together || chunks < 1 || chunks > 1000)
        fail(SDCPP_INVALID_ARGUMENT, "batch is 1 to ", most_together, ", chunks 1 to 1000");
    if (network == "clip_l") {
        const int64_t positions = net.as<ClipText>().positions();
        return net.preview({{"tokens", GGML_TYPE_I32, {std::min(chunks, chunks_together), positions}},
                            {"mask", GGML_TYPE_F16, {positions, positions}, nullptr, true}});
    }
    require_size(width, height);
    const int64_t h = height / facts_.latent_factor, w = width / facts_.latent_factor;
    if (network == "unet") {
        const UNet& unet = net.as<UNet>();
        const int64_t n = batch * (guided ? 2 : 1), positions = text_ ? text_->as<ClipText>().positions() : 77;
        return net.preview({{"x", GGML_TYPE_F32, {n, unet.in_channels(), h, w}},
                            {"time", GGML_TYPE_F32, {n, unet.model_channels()}},
                            {"context", GGML_TYPE_F32, {n, chunks * positions, unet.context_width()}}});
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
    for (const auto* executor : {&text_, &unet_, &decoder_, &encoder_, &tiny_decoder_, &tiny_encoder_})
        if (*executor) out.push_back(executor->get());
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

Executor& Model::need(const std::unique_ptr<Executor>& executor, const char* what) const {
    if (!executor) fail(SDCPP_MISSING_PART, "the model has no ", what, "; give a file that holds one");
    return *executor;
}

Executor& Model::executor(const std::string& network) const {
    if (network == "clip_l") return need(text_, "text encoder (text_encoders=…)");
    if (network == "unet") return need(unet_, "UNet (model=…)");
    if (network == "vae.decoder") return need(decoder_, "VAE decoder (vae=…)");
    if (network == "vae.encoder") return need(encoder_, "VAE encoder (vae=…)");
    if (network == "taesd.decoder") return need(tiny_decoder_, "TAESD decoder (taesd=…)");
    if (network == "taesd.encoder") return need(tiny_encoder_, "TAESD encoder (taesd=…)");
    fail(SDCPP_INVALID_ARGUMENT, "unknown network '", network, "'");
}

Output Model::encode_prompt(std::span<const int32_t> tokens, const float* weights, int chunks, int clip_skip) {
    Executor& text = executor("clip_l");
    const ClipText& net = text.as<ClipText>();
    const int64_t positions = net.positions(), width = net.width();
    if (chunks < 1 || chunks > 1000 || tokens.size() != static_cast<size_t>(chunks * positions))
        fail(SDCPP_INVALID_ARGUMENT, "tokens must be [chunks, ", positions, "] with 1 to 1000 chunks");
    if (clip_skip < 1 || clip_skip > net.layers())
        fail(SDCPP_INVALID_ARGUMENT, "clip_skip is ", clip_skip, "; this text encoder has ", net.layers(),
             " layers, so 1 to ", net.layers(), " are possible");
    require_tokens(tokens, net.vocabulary());
    const auto mask = causal_mask(positions);
    Output all;
    all.shape = {1, 1, chunks * positions, width};
    for (int first = 0; first < chunks; first += chunks_together) {
        const int count = std::min(chunks_together, chunks - first);
        Output states = text.run({{"tokens", GGML_TYPE_I32, {count, positions}, tokens.data() + first * positions},
                                  {"mask", GGML_TYPE_F16, {positions, positions}, mask.data(), true}},
                                 net.stages_for(clip_skip));
        require_finite(states.data, "the text encoder's states");
        if (weights)
            for (int i = 0; i < count; ++i)
                weigh({states.data.data() + i * positions * width, static_cast<size_t>(positions * width)},
                      {weights + (first + i) * positions, static_cast<size_t>(positions)});
        all.data.insert(all.data.end(), states.data.begin(), states.data.end());
    }
    return all;
}

// The network's prediction for `repeats` copies of x, which holds batch_ latents; each copy has its context, and those
// lie behind one another.
Floats Model::predict(const Floats& x, double sigma, const Output& context, int repeats) {
    const UNet& net = unet_->as<UNet>();
    const double scale = 1 / std::sqrt(sigma * sigma + 1);
    const int64_t batch = static_cast<int64_t>(repeats) * batch_;
    Floats scaled, contexts;
    const auto states = static_cast<std::ptrdiff_t>(context.data.size()) / repeats;
    for (int i = 0; i < repeats; ++i) {
        for (const float value : x) scaled.push_back(static_cast<float>(value * scale));
        for (int k = 0; k < batch_; ++k)
            contexts.insert(contexts.end(), context.data.begin() + i * states, context.data.begin() + (i + 1) * states);
    }
    const Floats timesteps(static_cast<size_t>(batch), static_cast<float>(table_.timestep_of(sigma)));
    const Floats time = timestep_embedding(timesteps, net.model_channels());
    return unet_
        ->run({{"x", GGML_TYPE_F32, {batch, net.in_channels(), latent_height_, latent_width_}, scaled.data()},
               {"time", GGML_TYPE_F32, {batch, net.model_channels()}, time.data()},
               {"context", GGML_TYPE_F32, {batch, context.shape[2], context.shape[3]}, contexts.data()}})
        .data;
}

Floats Model::sample(const SampleOptions& options) {
    executor("unet");
    require_size(options.width, options.height);
    if (!options.cond) fail(SDCPP_INVALID_ARGUMENT, "a conditioning is needed");
    if (!std::isfinite(options.cfg_scale)) fail(SDCPP_INVALID_ARGUMENT, "cfg_scale must be a finite number");
    if (options.batch < 1 || options.batch > most_together)
        fail(SDCPP_INVALID_ARGUMENT, "batch is ", options.batch, "; 1 to ", most_together, " are possible");
    const bool guided = options.cfg_scale != 1;
    if (guided && !options.uncond)
        fail(SDCPP_INVALID_ARGUMENT, "cfg_scale other than 1 needs an unconditional conditioning");
    for (const Output* context : {options.cond, options.uncond})
        if (context && context->shape[3] != unet_->as<UNet>().context_width())
            fail(SDCPP_INVALID_ARGUMENT, "the conditioning comes from another model");

    latent_width_ = options.width / facts_.latent_factor;
    latent_height_ = options.height / facts_.latent_factor;
    batch_ = options.batch;
    BatchRng rng(options.rng, options.seed, batch_);
    const size_t one = static_cast<size_t>(facts_.latent_channels) * static_cast<size_t>(latent_width_) *
                       static_cast<size_t>(latent_height_);
    Floats x(one * static_cast<size_t>(batch_));
    std::vector<double> sigmas = make_sigmas(options.scheduler, options.steps, table_);
    if (options.noise) {
        for (int i = 0; i < batch_; ++i)
            std::copy_n(options.noise, one, x.begin() + i * static_cast<std::ptrdiff_t>(one));
    } else {
        rng.normal(x);
    }
    for (float& value : x) value = static_cast<float>(value * sigmas.front());

    Output both;  // what prompt and negative prompt say, where they go through the network together
    if (guided && options.cond->shape == options.uncond->shape) {
        both = *options.cond;
        both.data.insert(both.data.end(), options.uncond->data.begin(), options.uncond->data.end());
    }
    const auto denoise = [&](const Floats& noisy, double sigma) {
        Floats prediction, free;
        if (!both.data.empty()) {
            prediction = predict(noisy, sigma, both, 2);
            free.assign(prediction.begin() + static_cast<std::ptrdiff_t>(noisy.size()), prediction.end());
        } else {
            prediction = predict(noisy, sigma, *options.cond, 1);
            if (guided) free = predict(noisy, sigma, *options.uncond, 1);
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
    SamplerRun run{denoise, std::move(sigmas), rng, options.eta};
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
    const auto scale = static_cast<float>(options.taesd ? 1 : 1 / facts_.scaling_factor);
    const auto whole = [&](std::vector<float> part, int h, int w) {
        for (float& value : part) value *= scale;
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
    for (float& value : latent) value = static_cast<float>(value * facts_.scaling_factor);
    require_finite(latent, "the latents");
    return latent;
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
    if (network == "clip_l") {
        const ClipText& clip = net.as<ClipText>();
        Input& tokens = input("tokens", 2);
        tokens.type = GGML_TYPE_I32;
        if (tokens.shape[1] != clip.positions())
            fail(SDCPP_INVALID_ARGUMENT, "tokens must be [N, ", clip.positions(), "]");
        require_tokens(
            {static_cast<const int32_t*>(tokens.data), static_cast<size_t>(tokens.shape[0] * tokens.shape[1])},
            clip.vocabulary());
        const auto mask = causal_mask(clip.positions());
        return net.run({tokens, {"mask", GGML_TYPE_F16, {clip.positions(), clip.positions()}, mask.data(), true}});
    }
    const Input& x = input("x", 4);
    if (network == "unet") {
        const UNet& unet = net.as<UNet>();
        const Input& context = input("context", 3);
        const Input& timesteps = input("timesteps", 1);
        const int64_t batch = x.shape[0];
        if (x.shape[1] != unet.in_channels() || x.shape[2] % unet.multiple() || x.shape[3] % unet.multiple() ||
            context.shape[0] != batch || context.shape[2] != unet.context_width() || timesteps.shape[0] != batch)
            fail(SDCPP_INVALID_ARGUMENT, "unet takes x [N, ", unet.in_channels(), ", H, W] with sides in multiples of ",
                 unet.multiple(), ", timesteps [N] and context [N, T, ", unet.context_width(), "]");
        const Floats time = timestep_embedding({static_cast<const float*>(timesteps.data), static_cast<size_t>(batch)},
                                               unet.model_channels());
        return net.run({x, {"time", GGML_TYPE_F32, {batch, unet.model_channels()}, time.data()}, context});
    }
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
