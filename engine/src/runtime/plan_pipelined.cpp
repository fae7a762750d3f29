// The policy pipelined. Streamed stages take turns in a few slots, which the link fills ahead of the compute and
// without pause, also from one step to the next; the other stages are resident. Which ones, and how many slots, is
// searched for: a few starting choices, improved by exchanges, each judged by simulating it.
#include <array>
#include <cmath>
#include <memory>
#include <numeric>

#include "runtime/plan_parts.h"
#include "runtime/plan_simulation.h"

namespace sdcpp::planning {
namespace {

constexpr int most_slots = 4;
constexpr int64_t search_effort = 1'000'000;  // stages looked at in one plan: some milliseconds
constexpr double good_enough = 1.002;         // times the compute, which nothing can beat

// What each stage would stream.
using Slices = std::vector<uint64_t>;

struct Choice {
    std::vector<char> resident;
    std::shared_ptr<const Slices> slices;  // where it is not resident
    int slots = 0;
    double seconds = 0;
    uint64_t streamed = 0;

    uint64_t streamed_of(size_t i) const { return resident[i] ? 0 : (*slices)[i]; }
    bool better_than(const Choice& other) const {
        if (seconds < other.seconds * (1 - 1e-6)) return true;
        return seconds <= other.seconds * (1 + 1e-6) && streamed < other.streamed;
    }
};

// How microbatches are taken together; `room` is left for weights.
struct Grouping {
    int together = 1, group = 1;
    uint64_t workspace = 0, carry = 0, room = 0;
};

class Search {
  public:
    explicit Search(const Instance& instance) : in_(instance), n_(instance.count()) {
        for (size_t i = 0; i < n_; ++i)
            if (in_.stages[i].param_bytes > 0) weighty_.push_back(i);
        auto whole = std::make_shared<Slices>();
        for (const PlanStage& stage : in_.stages) {
            whole->push_back(stage.param_bytes);
            largest_ = std::max(largest_, stage.param_bytes);
            std::vector<uint64_t>& parts = parts_.emplace_back(stage.parts);
            if (parts.empty()) parts.push_back(stage.param_bytes);
            std::sort(parts.rbegin(), parts.rend());
            divisible_ |= parts.size() > 1;
        }
        whole_ = std::move(whole);
        most_resident_ = in_.options.most_resident < 0
                             ? weighty_.size()
                             : std::min(weighty_.size(), static_cast<size_t>(in_.options.most_resident));
    }

    // The best choice for `grouping`; nothing where none fits.
    std::optional<Choice> best(const Grouping& grouping, int64_t effort) {
        grouping_ = grouping;
        effort_ = effort;
        best_.reset();
        const double compute = in_.seconds(0, n_ - 1) * grouping.together;
        Choice all = empty_choice(0, whole_);
        std::fill(all.resident.begin(), all.resident.end(), 1);
        offer(all);
        if (best_) return best_;
        if (!in_.streams()) {  // everything is uploaded each time
            for (int slots = 1; slots <= most_slots; ++slots) offer(empty_choice(slots, whole_));
            return best_;
        }
        offer_all(whole_);
        if (divisible_ && most_resident_ == weighty_.size()) {
            for (const uint64_t share : {2u, 4u, 8u}) offer_all(slices([&](size_t) { return largest_ / share; }));
            for (int slots = 1; slots <= most_slots; ++slots) offer_slices(slots);
        }
        std::vector<Choice> starts = starts_;
        starts_.clear();
        std::stable_sort(starts.begin(), starts.end(),
                         [](const Choice& a, const Choice& b) { return a.better_than(b); });
        for (const Choice& start : starts) {
            if (effort_ <= 0 || best_->seconds <= compute * good_enough) break;
            improve(start);
        }
        return best_;
    }

    // Slot sizes; stages take slots in turn.
    std::array<uint64_t, most_slots> slot_sizes(const Choice& choice) const {
        std::array<uint64_t, most_slots> sizes{};
        size_t turn = 0;
        for (const size_t i : weighty_) {
            if (choice.resident[i]) continue;
            uint64_t& size = sizes[turn++ % static_cast<size_t>(choice.slots)];
            size = std::max(size, choice.streamed_of(i));
        }
        return sizes;
    }

  private:
    uint64_t bytes(size_t i) const { return in_.stages[i].param_bytes; }

    // As much of each stage as is at most `target(i)`.
    template <typename Target>
    std::shared_ptr<const Slices> slices(Target target) const {
        auto out = std::make_shared<Slices>(n_, 0);
        for (const size_t i : weighty_) {
            uint64_t room = std::min<uint64_t>(target(i), bytes(i)), taken = 0;
            for (const uint64_t part : parts_[i]) {
                if (part > room - taken) continue;
                taken += part;
            }
            (*out)[i] = taken;
        }
        return out;
    }

    void offer_all(const std::shared_ptr<const Slices>& given) {
        for (int slots = 1; slots <= most_slots; ++slots) {
            for (const double phase : {0.5, 0.0}) offer(spread(slots, given, phase));
            const Choice empty = empty_choice(slots, given);
            offer(filled(empty, weighty_));
            offer(filled(empty, by([&](size_t i) { return static_cast<double>(bytes(i)); })));
            offer(filled(empty, by([&](size_t i) { return exposed_seconds(i); })));
        }
    }

    // A part of every stage, as little as fits: the same of each, or in proportion to its compute.
    void offer_slices(int slots) {
        double longest = 0;
        for (const size_t i : weighty_) longest = std::max(longest, in_.stages[i].seconds);
        for (const bool proportional : {true, false}) {
            if (proportional && longest <= 0) continue;
            const auto with_share = [&](double share) {
                return empty_choice(slots, slices([&](size_t i) {
                                        const double part = proportional ? in_.stages[i].seconds / longest : 1;
                                        return static_cast<uint64_t>(share * part * static_cast<double>(largest_));
                                    }));
            };
            double low = 0, high = proportional ? 16 : 1;
            for (int i = 0; i < 12; ++i) {
                const double middle = (low + high) / 2;
                (fits(with_share(middle)) ? high : low) = middle;
            }
            offer(filled(with_share(high), by([&](size_t i) { return exposed_seconds(i); })));
        }
    }

    Choice empty_choice(int slots, std::shared_ptr<const Slices> given) const {
        Choice choice;
        choice.resident.assign(n_, 1);  // what has no weights is where it is
        for (const size_t i : weighty_) choice.resident[i] = (*given)[i] == 0;
        choice.slices = std::move(given);
        choice.slots = slots;
        return choice;
    }

    size_t streamed_count(const Choice& choice) const {
        size_t count = 0;
        for (const size_t i : weighty_) count += choice.resident[i] ? 0 : 1;
        return count;
    }

    bool fits(const Choice& choice) {
        effort_ -= static_cast<int64_t>(n_);
        uint64_t sum = 0;
        size_t residents = 0;
        for (const size_t i : weighty_) {
            sum += bytes(i) - choice.streamed_of(i);
            residents += choice.resident[i] ? 1 : 0;
        }
        if (residents > most_resident_) return false;
        if (residents < weighty_.size())
            for (const uint64_t size : slot_sizes(choice)) sum += size;
        return in_.options.budget_bytes == 0 || sum <= grouping_.room;
    }

    double exposed_seconds(size_t i) const {
        return static_cast<double>(bytes(i)) / in_.options.link_bytes_per_s -
               in_.stages[i].seconds * grouping_.together;
    }

    template <typename Key>
    std::vector<size_t> by(Key key) const {
        std::vector<size_t> order = weighty_;
        std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return key(a) > key(b); });
        return order;
    }

    // Makes resident what fits, in `order`.
    Choice filled(Choice choice, const std::vector<size_t>& order) {
        for (const size_t i : order) {
            if (choice.resident[i]) continue;
            choice.resident[i] = 1;
            if (!fits(choice)) choice.resident[i] = 0;
        }
        return choice;
    }

    // Residents in even distances, as many as fit: the share of each stage's bytes is carried over to the next stage.
    Choice spread(int slots, const std::shared_ptr<const Slices>& given, double phase) {
        const auto with_share = [&](double share) {
            Choice choice = empty_choice(slots, given);
            double owed = 0;
            for (const size_t i : weighty_) {
                const auto slice = static_cast<double>((*given)[i]);
                owed += share * slice;
                if (owed < phase * slice || owed <= 0) continue;
                choice.resident[i] = 1;
                owed -= slice;
            }
            return choice;
        };
        double low = 0, high = 1;
        for (int i = 0; i < 10; ++i) {
            const double middle = (low + high) / 2;
            (fits(with_share(middle)) ? low : high) = middle;
        }
        return filled(with_share(low), by([&](size_t i) { return exposed_seconds(i); }));
    }

    // A stage that has a slot to itself is resident: so every slot serves two stages or more, where residents are not
    // limited.
    void normalize(Choice& choice) const {
        const size_t streamed = streamed_count(choice);
        if (streamed == 1 && most_resident_ == weighty_.size()) {
            std::fill(choice.resident.begin(), choice.resident.end(), 1);
            choice.slots = 0;
        } else {
            choice.slots = std::min(choice.slots, static_cast<int>(std::max<size_t>(streamed / 2, streamed ? 1 : 0)));
        }
    }

    bool judge(Choice& choice) {
        normalize(choice);
        if (!fits(choice)) return false;
        works_.clear();
        size_t turn = 0;
        bool merges = false;  // with the resident stage before
        choice.streamed = 0;
        const double dispatch = in_.options.dispatch_seconds * grouping_.together / grouping_.group;
        for (size_t i = 0; i < n_; ++i) {
            const double seconds = in_.stages[i].seconds * grouping_.together;
            if (choice.resident[i] && merges) {
                works_.back().seconds += seconds;
                continue;
            }
            merges = choice.resident[i];
            works_.push_back({seconds + dispatch, 0, -1});
            if (choice.resident[i]) continue;
            works_.back().bytes = choice.streamed_of(i);
            works_.back().slot = static_cast<int>(turn++ % static_cast<size_t>(choice.slots));
            choice.streamed += choice.streamed_of(i);
        }
        choice.seconds = steady_seconds(works_, in_.options.link_bytes_per_s, Uploads::continuous);
        effort_ -= 5 * static_cast<int64_t>(works_.size());
        return true;
    }

    void offer(Choice choice) {
        if (!judge(choice)) return;
        if (!best_ || choice.better_than(*best_)) best_ = choice;
        starts_.push_back(std::move(choice));
    }

    // Exchanges residents with streamed stages, and changes the number of slots, for as long as that helps.
    void improve(Choice choice) {
        const auto better = [&](Choice tried) {
            if (!judge(tried) || !tried.better_than(choice)) return false;
            choice = std::move(tried);
            if (choice.better_than(*best_)) best_ = choice;
            return true;
        };
        const auto order = by([&](size_t i) { return static_cast<double>(bytes(i)); });
        for (bool moved = true; moved && effort_ > 0;) {
            moved = false;
            for (int slots = 1; slots <= most_slots; ++slots) {
                Choice tried = choice;
                tried.slots = slots;
                moved |= better(filled(std::move(tried), order));
            }
            for (size_t k = 0; k < weighty_.size() && effort_ > 0; ++k) {
                const size_t i = weighty_[k];
                Choice without = choice;
                if (choice.resident[i] && (*choice.slices)[i] == 0) continue;  // no part of it is streamed
                without.resident[i] = choice.resident[i] ? 0 : 1;
                if (!choice.resident[i]) {  // make room for it: one that is resident leaves
                    moved |= better(without);
                    for (size_t d = 1; d < weighty_.size() && effort_ > 0 && !choice.resident[i]; ++d) {
                        for (const size_t j : {k + d, k - d}) {
                            if (j >= weighty_.size() || !choice.resident[weighty_[j]]) continue;
                            if ((*choice.slices)[weighty_[j]] == 0) continue;
                            Choice tried = choice;
                            tried.resident[i] = 1;
                            tried.resident[weighty_[j]] = 0;
                            if (!fits(tried)) continue;
                            moved |= better(filled(std::move(tried), order));
                        }
                    }
                } else {  // what fits in its place
                    Choice tried = filled(without, order);
                    if (tried.resident[i]) {
                        std::vector<size_t> others = order;
                        std::erase(others, i);
                        tried = filled(std::move(without), others);
                    }
                    moved |= better(std::move(tried));
                }
            }
        }
    }

    const Instance& in_;
    size_t n_;
    std::vector<size_t> weighty_;  // stages that have weights
    size_t most_resident_ = 0;
    Grouping grouping_;
    std::optional<Choice> best_;
    std::vector<Choice> starts_;
    std::vector<Work> works_;
    int64_t effort_ = 0;
    std::vector<std::vector<uint64_t>> parts_;  // of each stage, the largest first
    std::shared_ptr<const Slices> whole_;
    uint64_t largest_ = 0;
    bool divisible_ = false;
};

std::vector<int> divisors(int number) {
    std::vector<int> out;
    for (int d = number; d >= 1; --d)
        if (number % d == 0) out.push_back(d);
    return out;
}

// Every way to take microbatches together that leaves room for weights, the largest first.
std::vector<Grouping> groupings(const Instance& instance) {
    uint64_t compute = 0, carry = 0;
    for (const PlanStage& stage : instance.stages) {
        compute = std::max(compute, stage.compute_bytes);
        carry = std::max(carry, stage.carry_in_bytes + stage.carry_out_bytes);
    }
    std::vector<Grouping> out;
    for (const int together : divisors(instance.options.microbatches)) {
        for (const int group : divisors(together)) {
            Grouping g{together, group, compute * static_cast<uint64_t>(group), carry * static_cast<uint64_t>(together),
                       0};
            if (!instance.fits(g.workspace + g.carry)) continue;
            g.room = instance.options.budget_bytes - g.workspace - g.carry;  // not looked at where there is no budget
            out.push_back(g);
        }
    }
    return out;
}

Plan plan_of(const Instance& instance, const Search& search, const Grouping& grouping, const Choice& choice) {
    Plan plan;
    plan.policy = Policy::pipelined;
    plan.together = grouping.together;
    plan.group = grouping.group;
    plan.passes = instance.options.microbatches / grouping.together;
    for (size_t i = 0; i < instance.count(); ++i) {
        plan.resident.push_back(choice.resident[i] != 0);
        plan.streamed.push_back(choice.streamed_of(i));
        plan.resident_bytes += instance.stages[i].param_bytes - plan.streamed.back();
    }
    uint64_t weights = plan.resident_bytes;
    if (choice.streamed > 0) {
        const auto sizes = search.slot_sizes(choice);
        plan.slots.assign(sizes.begin(), sizes.begin() + choice.slots);
        weights += std::accumulate(plan.slots.begin(), plan.slots.end(), uint64_t{0});
    }
    const auto group = static_cast<uint64_t>(grouping.group), together = static_cast<uint64_t>(grouping.together);
    const auto compute = [&](const UnionBytes& bytes) { return bytes.compute * group; };
    const auto carry = [&](const UnionBytes& bytes) { return (bytes.carry_in + bytes.carry_out) * together; };
    int turn = 0;
    for (size_t i = 0; i < instance.count();) {
        PlannedSegment segment{i, i, 0, 0, 0, 0, plan.resident[i], -1};
        UnionBytes bytes = instance.extent(i, i);
        while (segment.resident && segment.last + 1 < instance.count() && plan.resident[segment.last + 1]) {
            const UnionBytes longer = instance.extent(i, segment.last + 1);
            const bool all = i == 0 && segment.last + 2 == instance.count();  // one segment: it alone is to fit
            const uint64_t workspace = std::max(all ? 0 : grouping.workspace, compute(longer));
            if (!instance.fits(weights + workspace + std::max(all ? 0 : grouping.carry, carry(longer)))) break;
            bytes = longer;
            ++segment.last;
        }
        segment.param_bytes = instance.params(segment.first, segment.last);
        segment.compute_bytes = compute(bytes);
        segment.footprint_bytes = segment.param_bytes + compute(bytes) + carry(bytes);
        if (!segment.resident) {
            segment.streamed_bytes = plan.streamed[i];
            segment.slot = turn++ % choice.slots;
        }
        plan.workspace_bytes = std::max(plan.workspace_bytes, compute(bytes));
        plan.carry_bytes = std::max(plan.carry_bytes, carry(bytes));
        i = segment.last + 1;
        plan.segments.push_back(segment);
    }
    plan.streamed_bytes_per_step = choice.streamed * static_cast<uint64_t>(plan.passes);
    plan.peak_bytes = weights + plan.workspace_bytes + plan.carry_bytes;
    return plan;
}

}  // namespace

std::optional<Plan> pipelined_plan(const Instance& instance) {
    Search search(instance);
    std::optional<Plan> best;
    double best_seconds = 0;
    const std::vector<Grouping> all = groupings(instance);
    const double compute = instance.seconds(0, instance.count() - 1) * instance.options.microbatches;
    for (const Grouping& grouping : all) {
        const auto choice = search.best(grouping, search_effort / static_cast<int64_t>(all.size()));
        if (!choice) continue;
        const double seconds = choice->seconds * (instance.options.microbatches / grouping.together);
        if (best && seconds >= best_seconds * (1 - 1e-6)) continue;
        best = plan_of(instance, search, grouping, *choice);
        best_seconds = seconds;
        if (seconds <= compute * good_enough) break;
    }
    if (best && !instance.fits(best->peak_bytes)) return std::nullopt;
    return best;
}

uint64_t least_for_pipelined(const Instance& instance) {
    uint64_t params = 0, total = 0, compute = 0, carry = 0;
    for (const PlanStage& stage : instance.stages) {
        params = std::max(params, stage.param_bytes);
        total += stage.param_bytes;
        compute = std::max(compute, stage.compute_bytes);
        carry = std::max(carry, stage.carry_in_bytes + stage.carry_out_bytes);
    }
    return compute + carry + (instance.options.offload_to_cpu ? params : total);
}

}  // namespace sdcpp::planning
