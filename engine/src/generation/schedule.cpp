#include "generation/schedule.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <numbers>

#include "base/error.h"
#include "base/names.h"

namespace sdcpp {
namespace {

// `count` numbers from `first` to `last`, both included.
std::vector<double> linspace(double first, double last, int count) {
    std::vector<double> out(static_cast<size_t>(count), first);
    for (int i = 1; i < count; ++i) out[static_cast<size_t>(i)] = first + (last - first) * i / (count - 1);
    return out;
}

template <typename Function>
std::vector<double> mapped(std::vector<double> values, Function function) {
    std::transform(values.begin(), values.end(), values.begin(), function);
    return values;
}

// k-diffusion's default: timesteps spaced evenly from the last to the first.
std::vector<double> discrete(int steps, const NoiseTable& table) {
    return mapped(linspace(static_cast<double>(table.sigmas().size() - 1), 0, steps),
                  [&](double t) { return table.sigma_of(t); });
}

// The highest and the lowest level of schedules that are spaced by the levels themselves.
std::pair<double, double> range(int steps, const NoiseTable& table) {
    if (table.range_of.empty()) return {table.sigma_max(), table.sigma_min()};
    const std::vector<double> levels = make_sigmas(table.range_of, steps, table);
    return {levels.front(), levels.rbegin()[1]};
}

// Karras et al. 2022, equation 5, rho = 7.
std::vector<double> karras(int steps, const NoiseTable& table) {
    const auto [most, least] = range(steps, table);
    const double rho = 7, high = std::pow(most, 1 / rho), low = std::pow(least, 1 / rho);
    return mapped(linspace(high, low, steps), [&](double s) { return std::pow(s, rho); });
}

std::vector<double> exponential(int steps, const NoiseTable& table) {
    const auto [most, least] = range(steps, table);
    return mapped(linspace(std::log(most), std::log(least), steps), [](double s) { return std::exp(s); });
}

// Stability AI's generative-models: as `discrete` with one step more, without the last.
std::vector<double> sgm_uniform(int steps, const NoiseTable& table) {
    std::vector<double> out = discrete(steps + 1, table);
    out.pop_back();
    return out;
}

// ComfyUI's "simple": every n-th entry of the table, from the end. A flow has entries everywhere, so its shares of the
// way are even (diffusers' default for flows).
std::vector<double> simple(int steps, const NoiseTable& table) {
    std::vector<double> out;
    const double stride = static_cast<double>(table.sigmas().size()) / steps;
    for (int i = 0; i < steps; ++i) {
        const double back = table.is_flow() ? i * stride : std::floor(i * stride);
        out.push_back(table.sigma_of(static_cast<double>(table.sigmas().size() - 1) - back));
    }
    return out;
}

// Lin et al. 2024, table 2, "leading": every n-th whole timestep from the first, moved by an offset.
std::vector<double> leading(int steps, const NoiseTable& table) {
    const auto count = static_cast<double>(table.sigmas().size());
    const int past = table.leading_past_last ? 1 : 0;
    const double stride = std::floor(count / (steps + past));
    if (stride < 1 || (steps - 1 + past) * stride + table.steps_offset >= count)
        fail(SDCPP_INVALID_ARGUMENT, "the schedule 'leading' has fewer timesteps than ", steps, "; take fewer steps");
    std::vector<double> out;
    for (int i = steps - 1 + past; i >= past; --i) out.push_back(table.sigma_of(i * stride + table.steps_offset));
    return out;
}

// "trailing" of the same table: whole timesteps spaced evenly, the last one included.
std::vector<double> trailing(int steps, const NoiseTable& table) {
    const auto count = static_cast<double>(table.sigmas().size());
    std::vector<double> out;
    for (int i = 0; i < steps; ++i) out.push_back(table.sigma_of(std::nearbyint(count - i * count / steps) - 1));
    return out;
}

// The timesteps that latent consistency models are distilled at, 50 of them, thinned out evenly (Luo et al. 2023).
std::vector<double> lcm(int steps, const NoiseTable& table) {
    constexpr int distilled = 50;
    if (steps > distilled)
        fail(SDCPP_INVALID_ARGUMENT, "the schedule 'lcm' has ", distilled, " steps at most, not ", steps);
    const auto stride = std::floor(static_cast<double>(table.sigmas().size()) / distilled);
    std::vector<double> out;
    for (int i = 0; i < steps; ++i)
        out.push_back(
            table.sigma_of((distilled - std::floor(static_cast<double>(i * distilled) / steps)) * stride - 1));
    return out;
}

// Published levels, interpolated in the logarithm.
std::vector<double> published(int steps, const std::vector<double>& levels, const char* name) {
    if (levels.size() < 2)
        fail(SDCPP_INVALID_ARGUMENT, "the schedule '", name, "' is not published for this model; take another");
    // steps + 1 places over the published levels; the last is then replaced by 0
    std::vector<double> out = mapped(linspace(0, static_cast<double>(levels.size() - 1), steps + 1), [&](double at) {
        const size_t low = std::min(static_cast<size_t>(at), levels.size() - 2);
        const double part = at - static_cast<double>(low);
        return std::exp((1 - part) * std::log(levels[low]) + part * std::log(levels[low + 1]));
    });
    out.pop_back();
    return out;
}

// "Align Your Steps" (Sabour et al. 2024).
std::vector<double> align_your_steps(int steps, const NoiseTable& table) {
    return published(steps, table.aligned_sigmas, "ays");
}

// "GITS", levels spaced by the geometry of sampling's paths (Chen et al. 2024, arXiv 2405.11326).
std::vector<double> gits(int steps, const NoiseTable& table) {
    return published(steps, table.geometric_sigmas, "gits");
}

// The regularized incomplete beta function, by its continued fraction (modified Lentz).
double incomplete_beta(double a, double b, double x) {
    if (x <= 0) return 0;
    if (x >= 1) return 1;
    if (x > (a + 1) / (a + b + 2)) return 1 - incomplete_beta(b, a, 1 - x);
    const double front =
        std::exp(std::lgamma(a + b) - std::lgamma(a) - std::lgamma(b) + a * std::log(x) + b * std::log1p(-x)) / a;
    constexpr double tiny = 1e-300;
    double c = 1, d = 0, product = 1;
    for (int i = 0; i <= 300; ++i) {
        const int m = i / 2;
        const double numerator = i == 0       ? 1.0
                                 : i % 2 == 0 ? m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
                                              : -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1));
        d = 1 + numerator * d;
        d = 1 / (std::abs(d) < tiny ? tiny : d);
        c = 1 + numerator / c;
        if (std::abs(c) < tiny) c = tiny;
        product *= c * d;
        if (i > 0 && std::abs(1 - c * d) < 1e-15) break;
    }
    return front * (product - 1);
}

double inverse_incomplete_beta(double a, double b, double p) {
    double low = 0, high = 1;
    for (int i = 0; i < 80; ++i) {
        const double middle = (low + high) / 2;
        (incomplete_beta(a, b, middle) < p ? low : high) = middle;
    }
    return (low + high) / 2;
}

// Whole timesteps at the places that `curve` gives for shares from 1 to 0 of the steps; repeated ones are left out.
template <typename Curve>
std::vector<double> along(int steps, const NoiseTable& table, Curve curve) {
    std::vector<double> out;
    const double last = static_cast<double>(table.sigmas().size() - 1);
    double before = -1;
    for (int i = 0; i < steps; ++i) {
        const double t = std::nearbyint(curve(1 - static_cast<double>(i) / steps) * last);
        if (t != before) out.push_back(table.sigmas()[static_cast<size_t>(t)]);
        before = t;
    }
    return out;
}

// "Beta Sampling is All You Need" (Lee et al. 2024), alpha = beta = 0.6.
std::vector<double> beta(int steps, const NoiseTable& table) {
    return along(steps, table, [](double share) { return inverse_incomplete_beta(0.6, 0.6, share); });
}

// The same along the curve 3 u^2 - 2 u^3.
std::vector<double> smoothstep(int steps, const NoiseTable& table) {
    return along(steps, table, [](double share) { return share * share * (3 - 2 * share); });
}

// Two arctangents, one to the middle and one from there on (RES4LYF's "bong tangent"), times the highest level.
std::vector<double> bong_tangent(int steps, const NoiseTable& table) {
    const int all = steps + 2, first = static_cast<int>(0.6 * all);
    const double steep = 0.2 * 40 / all;
    const auto piece = [&](int count, double turn, double from, double to) {
        const auto at = [&](int i) { return std::atan(-steep * (i - turn)); };
        const double high = at(0), low = at(count - 1);
        std::vector<double> out;
        for (int i = 0; i < count; ++i)
            out.push_back(high > low ? to + (from - to) * (at(i) - low) / (high - low) : from);
        return out;
    };
    std::vector<double> out = piece(first, first, 1, 0.5);
    out.pop_back();  // the second piece begins with it
    for (const double value : piece(all - first, 0, 0.5, 0)) out.push_back(value);
    out.resize(static_cast<size_t>(steps));  // 0 is added again
    return mapped(std::move(out), [&](double value) { return value * table.sigma_max(); });
}

// Mochi's schedule (Genmo 2024): even steps through the first 2.5% of the way for half of the steps, then a parabola.
std::vector<double> linear_quadratic(int steps, const NoiseTable& table) {
    constexpr double linear_part = 0.025;
    const int even = steps / 2, curved = steps - even;
    std::vector<double> out;
    if (even == 0) return {table.sigma_max()};
    const double excess = even - linear_part * steps;
    const double a = excess / (even * static_cast<double>(curved) * curved);
    const double b = linear_part / even - 2 * excess / (static_cast<double>(curved) * curved);
    for (int i = 0; i < steps; ++i) {
        const double done = i < even ? i * linear_part / even : a * i * i + b * i + a * even * even;
        out.push_back((1 - done) * table.sigma_max());
    }
    return out;
}

// The place below which a share of the standard normal distribution lies.
double normal_quantile(double share) {
    double low = -40, high = 40;
    for (int i = 0; i < 100; ++i) {
        const double middle = (low + high) / 2;
        (std::erfc(-middle / std::numbers::sqrt2) / 2 < share ? low : high) = middle;
    }
    return (low + high) / 2;
}

// Ideogram 4's schedule (2026, as diffusers has it): the logarithm of noise to signal is spread normally, about a mean
// that grows with the picture, between the levels of a signal of -15 and of 18 (logarithms of signal to noise). Levels
// beyond a diffusion's own range, which repeat its ends, are left out.
std::vector<double> logit_normal(int steps, const NoiseTable& table) {
    constexpr double spread = 1.5, most = 18 / 2.0, least = -15 / 2.0;
    std::vector<double> out;
    for (int i = 0; i < steps; ++i) {
        const double place = table.logit_mean + spread * normal_quantile(1 - static_cast<double>(i) / steps);
        const double ratio = std::exp(std::clamp(place, least, most));
        const double sigma =
            table.is_flow() ? ratio / (1 + ratio) : std::clamp(ratio, table.sigma_min(), table.sigma_max());
        if (out.empty() || sigma < out.back()) out.push_back(sigma);
    }
    return out;
}

// The KL-optimal schedule of "Align Your Steps", equation 14: arctangents spaced evenly.
std::vector<double> kl_optimal(int steps, const NoiseTable& table) {
    return mapped(linspace(std::atan(table.sigma_max()), std::atan(table.sigma_min()), steps),
                  [](double s) { return std::tan(s); });
}

using Schedule = std::vector<double> (*)(int, const NoiseTable&);
const std::vector<std::pair<std::string, Schedule>>& schedules() {
    static const std::vector<std::pair<std::string, Schedule>> all = {{"discrete", discrete},
                                                                      {"karras", karras},
                                                                      {"exponential", exponential},
                                                                      {"sgm_uniform", sgm_uniform},
                                                                      {"simple", simple},
                                                                      {"ays", align_your_steps},
                                                                      {"gits", gits},
                                                                      {"beta", beta},
                                                                      {"smoothstep", smoothstep},
                                                                      {"bong_tangent", bong_tangent},
                                                                      {"linear_quadratic", linear_quadratic},
                                                                      {"logit_normal", logit_normal},
                                                                      {"kl_optimal", kl_optimal},
                                                                      {"leading", leading},
                                                                      {"trailing", trailing},
                                                                      {"lcm", lcm}};
    return all;
}

}  // namespace

NoiseTable::NoiseTable(const std::string& kind, double beta_start, double beta_end, int timesteps, bool zero_snr) {
    if ((kind != "scaled_linear" && kind != "linear") || !(beta_start > 0) || !(beta_end < 1) ||
        !(beta_start < beta_end) || timesteps < 2 || timesteps > 100000)
        fail(SDCPP_UNSUPPORTED_MODEL, "the model's noise schedule (", kind, ", ", beta_start, " to ", beta_end, " in ",
             timesteps, " timesteps) cannot be used; known are scaled_linear and linear");
    const bool scaled = kind == "scaled_linear";
    double product = 1;
    std::vector<double> products;
    for (const double value :
         linspace(scaled ? std::sqrt(beta_start) : beta_start, scaled ? std::sqrt(beta_end) : beta_end, timesteps)) {
        product *= 1 - (scaled ? value * value : value);
        products.push_back(product);
    }
    if (zero_snr) {  // their roots are moved so that the last is 0 and the first stays
        const double first = std::sqrt(products.front()), last = std::sqrt(products.back());
        for (double& p : products) p = std::pow((std::sqrt(p) - last) * first / (first - last), 2);
        products.back() = 0x1p-24;  // so that sigma stays finite, as diffusers does
    }
    for (const double p : products) {
        sigmas_.push_back(std::sqrt((1 - p) / p));
        log_sigmas_.push_back(std::log(sigmas_.back()));
    }
}

NoiseTable NoiseTable::flow(double shift) {
    constexpr int places = 1000;
    if (!(shift > 0) || shift > 1000)
        fail(SDCPP_INVALID_ARGUMENT, "flow_shift is ", shift, "; above 0 to 1000 is possible");
    NoiseTable out;
    out.shift_ = shift;
    out.sigmas_.clear();
    out.log_sigmas_.clear();
    for (int i = 0; i < places; ++i) out.sigmas_.push_back(out.sigma_of(i));
    return out;
}

double NoiseTable::sigma_of(double place) const {
    if (is_flow()) {
        const double t = std::clamp((place + 1) / 1000, 0.0, 1.0);
        return shift_ * t / (1 + (shift_ - 1) * t);
    }
    const double last = static_cast<double>(log_sigmas_.size() - 1);
    const double t = std::clamp(place, 0.0, last);
    const size_t low = std::min(static_cast<size_t>(t), log_sigmas_.size() - 2);
    const double part = t - static_cast<double>(low);
    return std::exp((1 - part) * log_sigmas_[low] + part * log_sigmas_[low + 1]);
}

double NoiseTable::timestep_of(double sigma) const {
    if (is_flow()) return 1000 * sigma;
    const double value = std::log(sigma);
    const auto above = std::upper_bound(log_sigmas_.begin(), log_sigmas_.end(), value);
    const auto index = std::clamp<std::ptrdiff_t>(above - log_sigmas_.begin() - 1, 0,
                                                  static_cast<std::ptrdiff_t>(log_sigmas_.size()) - 2);
    const auto low = static_cast<size_t>(index);
    const double part = (value - log_sigmas_[low]) / (log_sigmas_[low + 1] - log_sigmas_[low]);
    return static_cast<double>(low) + std::clamp(part, 0.0, 1.0);
}

const std::vector<std::string>& scheduler_names() {
    static const std::vector<std::string> names = [] {
        std::vector<std::string> out;
        for (const auto& [name, schedule] : schedules()) out.push_back(name);
        return out;
    }();
    return names;
}

std::vector<double> make_sigmas(const std::string& scheduler, int steps, const NoiseTable& table) {
    require_name(OptionName{"scheduler"}, scheduler, scheduler_names());
    if (steps < 1 || steps > 10000) fail(SDCPP_INVALID_ARGUMENT, "steps is ", steps, "; 1 to 10000 are possible");
    for (const auto& [name, schedule] : schedules()) {
        if (name != scheduler) continue;
        std::vector<double> sigmas = schedule(steps, table);
        // as diffusers' FlowMatchEulerDiscreteScheduler has it
        if (const double signal = 1 - sigmas.back(); table.terminal > 0 && signal > 0)
            for (double& sigma : sigmas) sigma = 1 - (1 - sigma) * (1 - table.terminal) / signal;
        sigmas.push_back(0);
        return sigmas;
    }
    fail(SDCPP_INTERNAL, "no schedule ", scheduler);
}

}  // namespace sdcpp
