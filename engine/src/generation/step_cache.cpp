#include "generation/step_cache.h"

#include <algorithm>
#include <cmath>
#include <memory>

namespace sdcpp {
namespace {

double mean_distance(const Floats& a, const Floats& b) {
    double sum = 0;
    for (size_t i = 0; i < a.size(); ++i) sum += std::abs(static_cast<double>(a[i]) - b[i]);
    return sum / static_cast<double>(a.size());
}

double mean_size(const Floats& a) {
    double sum = 0;
    for (const float value : a) sum += std::abs(value);
    return sum / static_cast<double>(a.size());
}

// The predictions for the guides `which`, one behind the other, of `each` numbers.
using Predictions = std::map<size_t, Floats>;

class StepCache {
  public:
    StepCache(PredictFor predict, CacheOptions options, std::vector<double> sigmas, bool flow, Others others,
              CacheCount& count)
        : predict_(std::move(predict)),
          options_(std::move(options)),
          sigmas_(std::move(sigmas)),
          flow_(flow),
          others_(std::move(others)),
          count_(count) {}
    virtual ~StepCache() = default;

    Floats operator()(const Floats& x, double sigma, const std::vector<size_t>& which) {
        const size_t step = step_of(sigma, sigmas_);
        const double share = static_cast<double>(step) / static_cast<double>(sigmas_.size() - 1);
        if (std::vector<bool> now = others_ ? others_(step) : std::vector<bool>(); now != present_) {
            present_ = std::move(now);
            known_.clear();
            forget();
        }
        const bool known = std::all_of(which.begin(), which.end(), [&](size_t one) { return known_.contains(one); });
        Floats seen = x;
        if (!flow_)
            for (float& value : seen) value = static_cast<float>(value / std::hypot(1.0, sigma));
        ++count_.all;
        if (known && options_.counts_at(share) && skips(seen, which)) {
            ++count_.skipped;
            Floats out;
            for (const size_t one : which) {
                const Floats guess = guessed(one, seen);
                out.insert(out.end(), guess.begin(), guess.end());
            }
            return out;
        }
        Floats out = predict_(x, sigma, which);
        for (size_t n = 0; n < which.size(); ++n) {
            const auto first = out.begin() + static_cast<std::ptrdiff_t>(n * x.size());
            learn(which[n], n == 0, seen, {first, first + static_cast<std::ptrdiff_t>(x.size())});
        }
        return out;
    }

  protected:
    // Whether this step's predictions are guessed.
    virtual bool skips(const Floats& seen, const std::vector<size_t>& which) = 0;
    virtual Floats guessed(size_t guide, const Floats& seen) = 0;
    // A prediction that was computed; `first`: of the step's first guide.
    virtual void learn(size_t guide, bool first, const Floats& seen, Floats prediction) = 0;
    // What was learned does not hold any more.
    virtual void forget() = 0;

    Predictions known_;  // the last ones that were computed
    const CacheOptions& options() const { return options_; }

  private:
    PredictFor predict_;
    CacheOptions options_;
    std::vector<double> sigmas_;
    bool flow_;
    Others others_;
    std::vector<bool> present_;
    CacheCount& count_;
};

// Zhou et al. 2025 (2507.02860): predictions change in proportion to what the network sees. The first guide decides.
class EasyCache : public StepCache {
  public:
    using StepCache::StepCache;

  protected:
    bool skips(const Floats& seen, const std::vector<size_t>& which) override {
        if (rate_ <= 0) {
            before_ = seen;
            return false;
        }
        const double size = mean_size(known_.at(which.front()));
        change_ += size > 0 ? rate_ * mean_distance(seen, before_) / size : threshold();
        before_ = seen;
        return change_ < threshold();
    }
    Floats guessed(size_t guide, const Floats& seen) override {
        Floats out = known_.at(guide);
        const Floats& at = seen_at_;
        for (size_t i = 0; i < out.size(); ++i) out[i] += seen[i] - at[i];
        return out;
    }
    void learn(size_t guide, bool first, const Floats& seen, Floats prediction) override {
        if (first) {
            const auto last = known_.find(guide);
            if (last != known_.end()) {
                const double moved = mean_distance(seen, seen_at_);
                rate_ = moved > 0 ? mean_distance(prediction, last->second) / moved : 0;
            }
            seen_at_ = before_ = seen;
            change_ = 0;
        }
        known_[guide] = std::move(prediction);
    }
    void forget() override { rate_ = change_ = 0; }

  private:
    double threshold() const { return options().threshold_or(0.2); }

    Floats before_, seen_at_;  // the network's input in the last step, and in the last computed one
    double rate_ = 0, change_ = 0;
};

// Liu et al. 2025 (2503.06923), of the network's result: a series from differences between computed steps.
class TaylorSeer : public StepCache {
  public:
    using StepCache::StepCache;

  protected:
    bool skips(const Floats&, const std::vector<size_t>& which) override {
        ++ahead_;
        const size_t enough = static_cast<size_t>(options().order) + 1;
        return ahead_ < options().interval &&
               std::all_of(which.begin(), which.end(), [&](size_t one) { return series_[one].size() >= enough; });
    }
    Floats guessed(size_t guide, const Floats&) override {
        const std::vector<Floats>& series = series_.at(guide);
        Floats out(series.front().size(), 0.0f);
        double factor = 1;
        for (size_t power = 0; power < series.size(); ++power) {
            if (power) factor *= ahead_ / static_cast<double>(power);
            for (size_t i = 0; i < out.size(); ++i) out[i] += static_cast<float>(factor * series[power][i]);
        }
        return out;
    }
    void learn(size_t guide, bool first, const Floats&, Floats prediction) override {
        if (first) {
            distance_ = std::max(1, ahead_);
            ahead_ = 0;
        }
        std::vector<Floats>& series = series_[guide];
        std::vector<Floats> next = {prediction};
        for (size_t power = 0; power < series.size() && next.size() <= static_cast<size_t>(options().order); ++power) {
            Floats difference = next.back();
            for (size_t i = 0; i < difference.size(); ++i)
                difference[i] = (difference[i] - series[power][i]) / static_cast<float>(distance_);
            next.push_back(std::move(difference));
        }
        series = std::move(next);
        known_[guide] = std::move(prediction);
    }
    void forget() override {
        series_.clear();
        ahead_ = 0;
    }

  private:
    std::map<size_t, std::vector<Floats>> series_;  // by guide: the prediction, and its differences by rising order
    int ahead_ = 0, distance_ = 1;                  // steps since the last one that was computed
};

}  // namespace

const std::vector<std::string>& cache_names() {
    static const std::vector<std::string> names = {"none", "easycache", "taylorseer", "first_block"};
    return names;
}

PredictFor cached(PredictFor predict, const CacheOptions& options, std::vector<double> sigmas, bool flow, Others others,
                  CacheCount& count) {
    if (!options.on() || options.by_first_block()) return predict;
    std::shared_ptr<StepCache> cache;
    if (options.mode == "taylorseer")
        cache = std::make_shared<TaylorSeer>(std::move(predict), options, std::move(sigmas), flow, std::move(others),
                                             count);
    else
        cache =
            std::make_shared<EasyCache>(std::move(predict), options, std::move(sigmas), flow, std::move(others), count);
    return
        [cache](const Floats& x, double sigma, const std::vector<size_t>& which) { return (*cache)(x, sigma, which); };
}

}  // namespace sdcpp
