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
constexpr int tile_above = 96;  // latent sides past which tiling is automatic
constexpr int max_pixels_side = 16384;

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

void require_tokens(std::span<const int32_t> tokens, int64_t vocabulary) {
    for (const int32_t token : tokens)
        if (token < 0 || token >= vocabulary)
            fail(SDCPP_INVALID_ARGUMENT, "token ", token, " is outside the text encoder's vocabulary of ", vocabulary);
}

}  // namespace

Model::Model(const ModelOptions& options)
    : files_(options.paths), device_(options.device, options.threads, &cancelled_) {
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
    const std::unique_ptr<Executor>& found = network == "vae.decoder"   ? decoder_
                                             : network == "vae.encoder" ? encoder_
                                                                        : tiny_decoder_;
    return found != nullptr;
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
    for (int chunk = 0; chunk < chunks; ++chunk) {
        const auto part = tokens.subspan(static_cast<size_t>(chunk * positions), static_cast<size_t>(positions));
        Output states = text.run({{"tokens", GGML_TYPE_I32, {1, positions}, part.data()},
                                  {"mask", GGML_TYPE_F16, {positions, positions}, mask.data()}},
                                 net.stages_for(clip_skip));
        require_finite(states.data, "the text encoder's states");
        if (weights) {
            const auto mean = [&] {
                double sum = 0;
                for (const float value : states.data) sum += value;
                return sum / static_cast<double>(states.data.size());
            };
            const double before = mean();
            for (int64_t t = 0; t < positions; ++t)
                for (int64_t i = 0; i < width; ++i)
                    states.data[static_cast<size_t>(t * width + i)] *= weights[chunk * positions + t];
            const double after = mean();
            // a mean that vanishes cannot be restored by a factor
            if (const double ratio = before / after; std::isfinite(ratio) && ratio > 0 && ratio < 100)
                for (float& value : states.data) value = static_cast<float>(value * ratio);
        }
        all.data.insert(all.data.end(), states.data.begin(), states.data.end());
    }
    return all;
}

// The network's prediction for `batch` copies of x, one for each of the contexts that lie behind one another.
Floats Model::predict(const Floats& x, double sigma, const Output& context, int batch) {
    const UNet& net = unet_->as<UNet>();
    const double scale = 1 / std::sqrt(sigma * sigma + 1);
    Floats scaled;
    for (int i = 0; i < batch; ++i)
        for (const float value : x) scaled.push_back(static_cast<float>(value * scale));
    const Floats timesteps(static_cast<size_t>(batch), static_cast<float>(table_.timestep_of(sigma)));
    const Floats time = timestep_embedding(timesteps, net.model_channels());
    return unet_
        ->run({{"x", GGML_TYPE_F32, {batch, net.in_channels(), latent_height_, latent_width_}, scaled.data()},
               {"time", GGML_TYPE_F32, {batch, net.model_channels()}, time.data()},
               {"context", GGML_TYPE_F32, {batch, context.shape[2], context.shape[3]}, context.data.data()}})
        .data;
}

Floats Model::sample(const SampleOptions& options) {
    executor("unet");
    const int multiple = facts_.size_multiple, factor = facts_.latent_factor;
    for (const int side : {options.width, options.height})
        if (side < multiple || side > max_pixels_side || side % multiple != 0)
            fail(SDCPP_INVALID_ARGUMENT, "width and height are ", options.width, " x ", options.height,
                 "; both must be multiples of ", multiple, " from ", multiple, " to ", max_pixels_side);
    if (!options.cond) fail(SDCPP_INVALID_ARGUMENT, "a conditioning is needed");
    if (!std::isfinite(options.cfg_scale)) fail(SDCPP_INVALID_ARGUMENT, "cfg_scale must be a finite number");
    const bool guided = options.cfg_scale != 1;
    if (guided && !options.uncond)
        fail(SDCPP_INVALID_ARGUMENT, "cfg_scale other than 1 needs an unconditional conditioning");
    for (const Output* context : {options.cond, options.uncond})
        if (context && context->shape[3] != unet_->as<UNet>().context_width())
            fail(SDCPP_INVALID_ARGUMENT, "the conditioning comes from another model");

    latent_width_ = options.width / factor;
    latent_height_ = options.height / factor;
    const std::unique_ptr<Rng> rng = make_rng(options.rng, options.seed);
    Floats x(static_cast<size_t>(facts_.latent_channels) * static_cast<size_t>(latent_width_) *
             static_cast<size_t>(latent_height_));
    std::vector<double> sigmas = make_sigmas(options.scheduler, options.steps, table_);
    if (options.noise) {
        std::copy_n(options.noise, x.size(), x.begin());
    } else {
        rng->normal(x);
    }
    for (float& value : x) value = static_cast<float>(value * sigmas.front());

    Output both;
    if (guided && options.cond->shape == options.uncond->shape) {
        both = *options.cond;
        both.data.insert(both.data.end(), options.uncond->data.begin(), options.uncond->data.end());
    }
    const auto denoise = [&](const Floats& noisy, double sigma) {
        Floats prediction;
        if (!both.data.empty()) {
            try {
                prediction = predict(noisy, sigma, both, 2);
            } catch (const Error& error) {
                if (error.status() != SDCPP_OUT_OF_MEMORY) throw;
                log(SDCPP_LOG_INFO,
                    "too little memory for cond and uncond in one batch: one after the other from here on");
                both.data.clear();
                unet_->release();
            }
        }
        Floats free;
        if (prediction.empty()) {
            prediction = predict(noisy, sigma, *options.cond, 1);
            if (guided) free = predict(noisy, sigma, *options.uncond, 1);
        } else {
            free.assign(prediction.begin() + static_cast<std::ptrdiff_t>(noisy.size()), prediction.end());
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
    SamplerRun run{denoise, std::move(sigmas), *rng, options.eta};
    run.after_step = [&](size_t step, const Floats& denoised) {
        const std::chrono::duration<double> passed = std::chrono::steady_clock::now() - begin;
        if (options.callback && !options.callback(static_cast<int>(step), steps, passed.count(), denoised))
            fail(SDCPP_CANCELLED, "stopped by the callback");
    };
    run_sampler(options.sampler, run, x);
    require_finite(x, "the latents");
    return x;
}

Floats Model::decode(const DecodeOptions& options, std::span<const float> latent, int height, int width) {
    Executor& decoder = executor(options.taesd ? "taesd.decoder" : "vae.decoder");
    const int channels = facts_.latent_channels, factor = facts_.latent_factor;
    if (height < 1 || width < 1 || height > max_pixels_side / factor || width > max_pixels_side / factor)
        fail(SDCPP_INVALID_ARGUMENT, "latents of ", height, " x ", width, " cannot be decoded");
    const int tile = options.tile > 0 ? options.tile : default_tile;
    const double share = options.overlap < 0 ? 0.25 : options.overlap;
    if (tile < 8 || !(share <= 0.5))
        fail(SDCPP_INVALID_ARGUMENT, "a tile must be 8 or more latent sides, its overlap 0 to 0.5");
    const auto scale = static_cast<float>(options.taesd ? 1 : 1 / facts_.scaling_factor);
    const auto whole = [&](std::vector<float> part, int h, int w) {
        for (float& value : part) value *= scale;
        Floats picture = decoder.run({{"x", GGML_TYPE_F32, {1, channels, h, w}, part.data()}}).data;
        if (options.taesd)
            for (float& value : picture) value = value * 2 - 1;
        require_finite(picture, "the decoded pixels");
        return picture;
    };
    const bool large = height > tile_above || width > tile_above;
    if (options.tiling == 0 || (options.tiling < 0 && !large))
        return whole({latent.begin(), latent.end()}, height, width);
    const TileGrid grid{tile, static_cast<int>(tile * share), factor, channels, 3};
    return decode_tiled(grid, latent, height, width, whole);
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
        return net.run({tokens, {"mask", GGML_TYPE_F16, {clip.positions(), clip.positions()}, mask.data()}});
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
    for (Executor* executor : executors()) {
        memory.workspace = std::max(memory.workspace, executor->take_peak_workspace());
        memory.weights += executor->copied_weight_bytes();
        memory.mapped += executor->mapped_weight_bytes();
        executor->release();
    }
    return memory;
}

}  // namespace sdcpp
