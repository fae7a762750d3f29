#include <algorithm>
#include <cmath>

#include "base/clock.h"
#include "pipeline/checks.h"
#include "pipeline/model.h"

namespace sdcpp {
namespace {

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

}  // namespace

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

    const auto begin = Clock::now();
    const int steps = static_cast<int>(sigmas.size()) - 1;
    SamplerRun run{denoise, std::move(sigmas), rng, options.eta, family_.flow};
    run.after_step = [&](size_t step, const Floats& denoised) {
        if (options.callback && !options.callback(static_cast<int>(step), steps, seconds_since(begin), denoised))
            fail(SDCPP_CANCELLED, "stopped by the callback");
    };
    run_sampler(options.sampler, run, x);
    require_finite(x, "the latents");
    return x;
}

}  // namespace sdcpp
