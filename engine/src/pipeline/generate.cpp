#include <algorithm>
#include <cmath>

#include "base/clock.h"
#include "base/log.h"
#include "pipeline/block_cache.h"
#include "pipeline/checks.h"
#include "pipeline/generate.h"

namespace sdcpp {
namespace {

std::vector<Noisy::Reference> references_of(const SampleOptions& options, int64_t channels) {
    std::vector<Noisy::Reference> out;
    size_t at = 0;
    for (size_t i = 0; i + 1 < options.reference_sides.size(); i += 2) {
        const LatentShape shape{channels, 1, options.reference_sides[i], options.reference_sides[i + 1]};
        const auto count = static_cast<size_t>(shape.count());
        out.push_back({shape, std::span(options.references).subspan(at, count)});
        at += count;
    }
    return out;
}

// One generator for each picture of a batch, so that a picture does not depend on the others.
class BatchRng : public Rng {
  public:
    BatchRng(const std::string& name, const std::vector<uint64_t>& seeds) {
        for (const uint64_t seed : seeds) each_.push_back(make_rng(name, seed));
    }
    void normal(std::span<float> out) override {
        const size_t part = out.size() / each_.size();
        for (size_t i = 0; i < each_.size(); ++i) each_[i]->normal(out.subspan(i * part, part));
    }
    std::vector<Origin> origins() const override {
        std::vector<Origin> out;
        for (const auto& one : each_) out.push_back(one->origins().front());
        return out;
    }

  private:
    std::vector<std::unique_ptr<Rng>> each_;
};

// A denoiser's predictions for latents of one run.
class Predictor {
  public:
    Predictor(Model& model, const NoiseTable& table, const SampleOptions& options, std::vector<PromptShare> shares,
              const std::vector<double>& sigmas, CacheCount& saved)
        : model_(model),
          executor_(model.need(Role::denoiser)),
          net_(executor_.as<Denoiser>()),
          facts_(model.facts),
          table_(table),
          options_(options),
          shares_(std::move(shares)),
          sigmas_(sigmas),
          saved_(saved) {
        if (options.guidance_by.skip_scale != 0) skipping_ = without_blocks(net_, options.skip_layers);
        if (options.cache.by_first_block())
            blocks_ = std::make_shared<BlockCache>(executor_, options.cache.threshold_or(0.08));
        if (const int64_t channels = net_.extra_channels()) {
            if (options.extra.empty())
                fail(SDCPP_INVALID_ARGUMENT, OptionName{"extra"}, " is needed: the diffusion model has ", channels,
                     " channels beside the latent's");
            const int64_t factor = facts_.latent.factor, height = options.height / factor,
                          width = options.width / factor;
            extra_ =
                for_each_picture(options.extra, static_cast<size_t>(channels * height * width), options.batch, "extra");
        }
    }

    // For each of `which` of the run's conditionings, one behind the other; together if they can be a batch.
    Floats operator()(const Floats& x, double sigma, const std::vector<size_t>& which) const {
        const auto skips = [&](size_t number) { return shares_[number].guide.skips_blocks; };
        const auto middle = std::find_if(which.begin(), which.end(), skips);
        Floats out;
        for (const std::vector<size_t>& part :
             {std::vector<size_t>(which.begin(), middle), std::vector<size_t>(middle, which.end())}) {
            const bool joined = std::all_of(part.begin(), part.end(), [&](size_t number) {
                return joinable(*shares_[number].conditionings.front(), *shares_[part.front()].conditionings.front());
            });
            if (joined && !part.empty()) {
                const Floats all = together(x, sigma, part);
                out.insert(out.end(), all.begin(), all.end());
                continue;
            }
            for (const size_t number : part) {
                const Floats one = together(x, sigma, {number});
                out.insert(out.end(), one.begin(), one.end());
            }
        }
        return out;
    }

  private:
    Floats together(const Floats& x, double sigma, const std::vector<size_t>& which) const {
        std::vector<const PromptShare*> shares;
        for (const size_t number : which) shares.push_back(&shares_[number]);
        const double scale = table_.is_flow() ? 1 : 1 / std::sqrt(sigma * sigma + 1);
        const auto batch = static_cast<size_t>(options_.batch);
        const size_t each = x.size() / batch, extra_each = extra_.size() / batch;
        Noisy noisy;
        noisy.shape = {net_.in_channels(), 1, options_.height / facts_.latent.factor,
                       options_.width / facts_.latent.factor};
        noisy.picture_height = options_.height;
        noisy.picture_width = options_.width;
        for (const PromptShare* share : shares) {
            for (size_t picture = 0; picture < batch; ++picture)
                noisy.conditionings.push_back(share->conditionings[share->conditionings.size() > 1 ? picture : 0]);
            noisy.negative.insert(noisy.negative.end(), batch, share->guide.negative);
            for (size_t picture = 0; picture < batch; ++picture) {
                const auto own = std::span(x).subspan(picture * each, each);
                for (const float value : own) noisy.x.push_back(static_cast<float>(value * scale));
                const auto extra = std::span(extra_).subspan(picture * extra_each, extra_each);
                for (const float value : extra) noisy.x.push_back(share->without_picture ? 0.0f : value);
            }
        }
        noisy.timesteps.assign(noisy.conditionings.size(), static_cast<float>(table_.timestep_of(sigma)));
        if (net_.takes_guidance())
            noisy.more.push_back(
                Array::of("guidance", {noisy.rows()}, Floats(noisy.conditionings.size(), options_.guidance)));
        noisy.references = references_of(options_, facts_.latent.channels);
        std::vector<Array> inputs = net_.inputs(noisy);
        const size_t step = step_of(sigma, sigmas_), steps = sigmas_.size() - 1;
        if (shares.front()->guide.skips_blocks) return net_.prediction(executor_.run(inputs, skipping_).front(), noisy);
        if (blocks_) {
            bool skipped = false;
            const bool may_skip = options_.cache.counts_at(static_cast<double>(step) / static_cast<double>(steps));
            const Array out = blocks_->run(inputs, which, may_skip, skipped);
            saved_.skipped += skipped;
            ++saved_.all;
            return net_.prediction(out, noisy);
        }
        const Selection selection = add_controls(model_, inputs, step, steps, noisy.negative);
        add_ip_adapters(model_, inputs, step, steps, noisy.negative);
        return net_.prediction(executor_.run(inputs, selection).front(), noisy);
    }

    Model& model_;
    Executor& executor_;
    const Denoiser& net_;
    const ModelFacts& facts_;
    const NoiseTable& table_;
    const SampleOptions& options_;
    std::vector<PromptShare> shares_;
    std::vector<double> sigmas_;
    CacheCount& saved_;
    Selection skipping_;                  // the blocks that run with guides that skip some
    std::shared_ptr<BlockCache> blocks_;  // null: every block runs in each step
    Floats extra_;                        // all pictures'; empty if the denoiser has no extra channels
};

void require_conditionings(const SampleOptions& options, const Denoiser& net) {
    const auto count = [&](bool negative) {
        return std::count_if(options.shares.begin(), options.shares.end(),
                             [&](const PromptShare& share) { return share.guide.negative == negative; });
    };
    if (count(false) == 0) fail(SDCPP_INVALID_ARGUMENT, "a conditioning is needed");
    const bool plain = std::all_of(options.shares.begin(), options.shares.end(), [](const PromptShare& share) {
        return share.guide.negative || share.guide.weight == 1;
    });
    if ((options.guidance_by.scale != 1 || !plain) && count(true) == 0)
        fail(SDCPP_INVALID_ARGUMENT, "cfg_scale and weights other than 1 need a negative conditioning");
    for (const PromptShare& share : options.shares) {
        const auto& [negative, weight, start, end, skips] = share.guide;
        if (!std::isfinite(weight) || (negative ? weight <= 0 : weight == 0))
            fail(SDCPP_INVALID_ARGUMENT, "a conditioning's weight must be a finite number, ",
                 negative ? "above 0 if it is negative" : "and not 0");
        if (!(start >= 0 && start < end && end <= 1))
            fail(SDCPP_INVALID_ARGUMENT, "a conditioning needs a share of the steps within 0 to 1");
        const size_t given = share.conditionings.size();
        if (given != 1 && given != static_cast<size_t>(options.batch))
            fail(SDCPP_INVALID_ARGUMENT, "a share has ", given, " conditionings; 1, or ", options.batch,
                 " for the pictures are needed");
        for (const Conditioning* one : share.conditionings) {
            for (const Denoiser::Taken& taken : net.conditioning())
                if (one->at(taken.name).shape.back() != taken.width)
                    fail(SDCPP_INVALID_ARGUMENT, "the conditioning comes from another model");
            if (!joinable(*one, *share.conditionings.front()))
                fail(SDCPP_INVALID_ARGUMENT, "the conditionings of one share have different shapes");
        }
    }
}

void require_references(const SampleOptions& options, const Model& model) {
    const Denoiser& net = *model.denoiser();
    const int64_t channels = model.facts.latent.channels;
    if (options.references.empty() && options.reference_sides.empty()) return;
    const bool taken = model.family.references && model.family.references(model.files);
    if (!taken || !net.takes_references() || net.extra_channels() != 0)
        fail(SDCPP_INVALID_ARGUMENT, OptionName{"references"}, " have no use: this model takes no reference pictures");
    int64_t count = 0;
    bool whole = options.reference_sides.size() % 2 == 0;
    for (size_t i = 0; whole && i + 1 < options.reference_sides.size(); i += 2) {
        const int64_t height = options.reference_sides[i], width = options.reference_sides[i + 1];
        for (const int64_t side : {height, width})
            whole = whole && side >= 1 && side <= max_pixels_side && side % net.multiple() == 0;
        count += whole ? channels * height * width : 0;
    }
    if (!whole || count != static_cast<int64_t>(options.references.size()))
        fail(SDCPP_INVALID_ARGUMENT, OptionName{"reference_sides"}, " are the height and width of each latent in ",
             OptionName{"references"}, ", multiples of ", net.multiple());
}

// The family's levels of noise, moved for a flow by the user's shift, else the config's, else the family's.
NoiseTable noise_table(const Model& model, const SampleOptions& options) {
    const double logit_mean = std::log(options.width / 512.0 * options.height / 512.0) / 2;
    if (!model.family.prediction.flow) {
        NoiseTable out = model.diffusion;
        out.logit_mean = logit_mean;
        return out;
    }
    const Json& config = model.files.config()["scheduler"];
    const FlowShift own = model.family.prediction.flow_shift(model.files);
    const double patches = static_cast<double>(options.height / model.facts.size_multiple) *
                           static_cast<double>(options.width / model.facts.size_multiple);
    double shift = own.settled ? own.fixed : config.number_or("shift", own.fixed);
    if (!own.settled && config.boolean_or("use_dynamic_shifting", own.dynamic)) {
        const double few = config.number_or("base_image_seq_len", own.few),
                     many = config.number_or("max_image_seq_len", own.many);
        const double low = config.number_or("base_shift", own.low), high = config.number_or("max_shift", own.high);
        shift = std::exp(low + (high - low) * (patches - few) / (many - few));
    }
    if (own.logarithm) shift = std::exp(own.logarithm(patches, options.steps));
    NoiseTable out = NoiseTable::flow(options.flow_shift > 0 ? options.flow_shift : shift);
    out.logit_mean = logit_mean;
    const Json::Object* told = config.object();
    out.terminal = told && told->contains("shift_terminal") ? config.number_or("shift_terminal", 0) : own.terminal;
    if (!(out.terminal >= 0 && out.terminal < 1))
        fail(SDCPP_UNSUPPORTED_MODEL, "the scheduler's shift_terminal is ", out.terminal, "; 0 to below 1 is possible");
    return out;
}

// What a mask keeps of the latents, which has one number for all channels of a place.
Kept kept_part(const SampleOptions& options, Floats latent, Floats noise, const LatentShape& shape,
               const std::vector<double>& sigmas, const NoiseTable& table) {
    const auto place = static_cast<size_t>(shape.frames * shape.height * shape.width);
    const Floats masks = for_each_picture(options.mask, place, options.batch, "mask");
    if (latent.empty())
        fail(SDCPP_INVALID_ARGUMENT, OptionName{"mask"}, " needs init_latent, of which it keeps a part");
    Kept kept;
    kept.latent = std::move(latent);
    kept.noise = std::move(noise);
    kept.flow = table.is_flow();
    for (auto own = masks.begin(); own != masks.end(); own += static_cast<std::ptrdiff_t>(place))
        for (int64_t c = 0; c < shape.channels; ++c)
            kept.mask.insert(kept.mask.end(), own, own + static_cast<std::ptrdiff_t>(place));
    for (const float value : kept.mask)
        if (!(value >= 0 && value <= 1)) fail(SDCPP_INVALID_ARGUMENT, OptionName{"mask"}, " has values outside 0 to 1");
    kept.soft = options.soft_inpainting;
    kept.pictures = static_cast<size_t>(options.batch);
    kept.channels = static_cast<size_t>(shape.channels);
    if (options.soft_mask && kept.soft.on)
        fail(SDCPP_INVALID_ARGUMENT, OptionName{"soft_mask"},
             " goes without soft inpainting: they are two ways to repaint softly");
    if (options.soft_mask) {
        const double first = table.timestep_of(sigmas.front());
        const double last = table.timestep_of(std::max(sigmas.back(), table.sigma_min()));
        kept.threshold = [&table, first, last](double sigma) {
            return first > last ? (table.timestep_of(sigma) - last) / (first - last) : 0;
        };
    }
    return kept;
}

// The level that each step goes to if all go equally many timesteps on; empty if these are the next steps' levels. 0 is
// beyond the first timestep.
std::vector<double> even_strides(const std::vector<double>& sigmas, int steps, const NoiseTable& table) {
    const auto count = static_cast<double>(table.sigmas().size());
    std::vector<double> out;
    bool differs = false;
    for (size_t i = 0; i + 1 < sigmas.size(); ++i) {
        const double place = std::nearbyint(table.timestep_of(sigmas[i])) - std::floor(count / steps);
        out.push_back(place >= 0 ? table.sigma_of(place) : 0);
        differs = differs || std::abs(out.back() - sigmas[i + 1]) > 1e-6 * sigmas[i];
    }
    return differs ? out : std::vector<double>();
}

// The part of the schedule whose timesteps lie in a share of them all, as diffusers' denoising_start and denoising_end
// count: runs that share a schedule meet at one level.
void cut(std::vector<double>& sigmas, const NoiseTable& table, double begin, double end) {
    if (!(begin >= 0 && begin < end && end <= 1))
        fail(SDCPP_INVALID_ARGUMENT, "denoising_start must be below denoising_end, both 0 to 1");
    const auto reached = [&](double share) {
        const double level = std::round(1000 * (1 - share));
        size_t place = 0;
        while (place + 1 < sigmas.size() && table.timestep_of(sigmas[place]) >= level) ++place;
        return static_cast<std::ptrdiff_t>(place);
    };
    const std::ptrdiff_t first = begin > 0 ? reached(begin) : 0;
    if (end < 1) sigmas.erase(sigmas.begin() + reached(end) + 1, sigmas.end());
    sigmas.erase(sigmas.begin(), sigmas.begin() + std::min(first, static_cast<std::ptrdiff_t>(sigmas.size())));
    if (sigmas.size() < 2)
        fail(SDCPP_INVALID_ARGUMENT, "no step of the schedule lies between denoising_start and denoising_end");
}

}  // namespace

Floats generate(Model& model, const SampleOptions& options) {
    const ModelFacts& facts = model.facts;
    if (!model.denoiser()) fail(SDCPP_MISSING_PART, "the model has no diffusion model; give a file that holds one");
    model.require_size(options.width, options.height);
    if (!std::isfinite(options.guidance_by.scale)) fail(SDCPP_INVALID_ARGUMENT, "cfg_scale must be a finite number");
    if (options.batch < 1 || options.batch > max_together)
        fail(SDCPP_INVALID_ARGUMENT, "batch is ", options.batch, "; 1 to ", max_together, " are possible");
    require_references(options, model);
    require_conditionings(options, *model.denoiser());
    require_hints(model, options.width, options.height);

    std::vector<uint64_t> seeds = options.seeds;
    if (seeds.empty())
        for (int i = 0; i < options.batch; ++i) seeds.push_back(options.seed + static_cast<uint64_t>(i));
    if (seeds.size() != static_cast<size_t>(options.batch))
        fail(SDCPP_INVALID_ARGUMENT, OptionName{"seeds"}, " are ", seeds.size(), "; ", options.batch,
             " pictures are to be made");
    BatchRng rng(options.rng, seeds);
    const LatentShape shape = {facts.latent.channels, 1, options.height / facts.latent.factor,
                               options.width / facts.latent.factor};
    const auto one = static_cast<size_t>(shape.count());
    const NoiseTable table = noise_table(model, options);
    const SchedulerConfig& folder = facts.scheduler;
    const bool as_folder = options.sampler == folder.sampler && options.scheduler == folder.schedule;
    Start start = options.start;
    start.unit_signal = as_folder && folder.unit_signal;
    std::vector<double> all = options.sigmas;
    if (all.empty()) all = make_sigmas(options.scheduler, options.steps, table);
    require_falling(all);
    cut(all, table, options.denoising_start, options.denoising_end);
    start.noisy = options.denoising_start > 0;
    auto [x, first_noise, latent, sigmas] = start.begin(std::move(all), rng, one, options.batch, table.is_flow());
    std::vector<double> landings;
    bool least = false;  // whether the run ends above 0
    if (as_folder && options.sigmas.empty()) {
        const bool whole = sigmas.back() == 0;
        if (folder.even_strides) landings = even_strides(sigmas, options.steps, table);
        const double level = !landings.empty() && landings.back() > 0 ? landings.back()
                             : folder.keeps_least_noise               ? table.sigma_min()
                                                                      : 0;
        least = whole && level > 0 && level < sigmas.rbegin()[1];
        if (least) sigmas.back() = level;
        if (whole && !landings.empty()) landings.back() = sigmas.back();
    }

    std::vector<PromptShare> shares = options.shares;
    if (options.guidance_by.skip_scale != 0)
        for (const PromptShare& share : options.shares)
            if (!share.guide.negative) shares.emplace_back(share).guide.skips_blocks = true;
    std::vector<Guide> guides;
    for (const PromptShare& share : shares) {
        Guide guide = share.guide;
        if (guide.negative) {
            guide.start = std::max(guide.start, options.guidance_start);
            guide.end = std::min(guide.end, options.guidance_end);
        }
        guides.push_back(guide);
    }
    Guidance how = options.guidance_by;
    how.columns = shape.width;
    how.patch = facts.size_multiple / facts.latent.factor;
    if (how.zero_steps < 0) how.zero_steps = table.is_flow() ? 1 : 0;
    const Guided combine(how, facts.predicts, options.batch, shape.channels);
    CacheCount saved;
    const Predictor predictor(model, table, options, std::move(shares), sigmas, saved);
    std::vector<double> negative_prediction;
    Floats negative;
    const Others others = [&model, steps = sigmas.size() - 1](size_t step) {
        std::vector<bool> out;
        for (const Control& control : model.controls) out.push_back(counts(control.choice, step, steps));
        for (const IpAdapterInUse& adapter : model.ip_adapters) out.push_back(counts(adapter.choice, step, steps));
        return out;
    };
    const Denoise clean = predicted(guided(cached(predictor, options.cache, sigmas, table.is_flow(), others, saved),
                                           guides, combine, sigmas, &negative_prediction),
                                    facts.predicts);
    const auto estimated = [&](const Floats& noisy, double sigma) {
        Floats out = clean(noisy, sigma);
        negative.clear();
        if (!negative_prediction.empty()) negative = clean_estimate(negative_prediction, noisy, sigma, facts.predicts);
        require_finite(out, "the latents");
        return out;
    };
    Denoise denoise = estimated;
    Kept kept;
    if (!options.mask.empty()) {
        kept = kept_part(options, std::move(latent), std::move(first_noise), shape, sigmas, table);
        denoise = masked(std::move(denoise), kept);
    }
    const auto begin = Clock::now();
    const int steps = static_cast<int>(sigmas.size()) - 1;
    SamplerRun run{denoise, std::move(sigmas), rng, options.eta, table.is_flow(), &negative, &table};
    run.landings = std::move(landings);
    run.after_step = [&](size_t step, const Floats& denoised, const Floats& noisy) {
        Floats scaled = noisy;
        const double sigma = run.sigmas[step];
        if (!table.is_flow())
            for (float& value : scaled) value = static_cast<float>(value / std::hypot(1.0, sigma));
        const StepReport report{static_cast<int>(step), steps, seconds_since(begin), denoised, scaled};
        for (const StepObserver& observer : options.observers)
            if (!observer(report)) fail(SDCPP_CANCELLED, "stopped by the callback");
    };
    run_sampler(options.sampler, run, x);
    if (options.cache.on())
        log(SDCPP_LOG_INFO, options.cache.mode + " has taken " + std::to_string(saved.skipped) + " of " +
                                std::to_string(saved.all) + " predictions from the steps before");
    if (least)
        for (float& value : x) value = static_cast<float>(value / std::hypot(1.0, run.sigmas.back()));
    if (!options.mask.empty()) put_back(x, kept);
    require_finite(x, "the latents");
    return x;
}

}  // namespace sdcpp
