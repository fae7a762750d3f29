#include "planning/search.h"

#include <cmath>
#include <numeric>

namespace sdcpp::planning {
namespace {

constexpr size_t fractions = 8;            // a stage's levels
constexpr uint64_t pieces_of_a_stage = 8;  // about, at most
constexpr size_t max_tried_all = 10;       // with so many stages, every subset is tried
constexpr uint8_t max_slots = 4;
constexpr Passes quick{2, 1};  // enough to compare
constexpr size_t max_starts_improved = 3;
constexpr uint64_t starts_between = 4;  // ring sizes between the least and all, each larger by the same factor

// A small generator of its own, so that plans are the same everywhere (xorshift64).
class Random {
  public:
    size_t below(size_t count) {
        state_ ^= state_ << 13;
        state_ ^= state_ >> 7;
        state_ ^= state_ << 17;
        return static_cast<size_t>(state_ % count);
    }

  private:
    uint64_t state_ = 0x9e3779b97f4a7c15;
};

}  // namespace

Search::Search(const Instance& instance) : in_(instance), n_(instance.count()) {
    const bool whole = in_.options.max_resident >= 0 || !in_.streams();
    for (size_t i = 0; i < n_; ++i) {
        const PlanStage& stage = in_.stages[i];
        std::vector<Level>& levels = levels_.emplace_back();
        levels.emplace_back();
        if (stage.param_bytes == 0) continue;
        weighty_.push_back(i);
        all_bytes_ += stage.param_bytes;
        largest_ = std::max(largest_, stage.param_bytes);
        std::vector<uint64_t> targets = {stage.param_bytes};
        if (!whole && stage.parts.size() > 1) {
            const auto [smallest, largest] = std::minmax_element(stage.parts.begin(), stage.parts.end());
            targets.insert(targets.end(), {*largest, stage.param_bytes - *smallest, stage.param_bytes - *largest});
            for (uint64_t k = 1; k < fractions; ++k) targets.push_back(stage.param_bytes / fractions * k);
        }
        for (const uint64_t target : targets) levels.push_back(level_of(stage, target));
        std::stable_sort(levels.begin(), levels.end(),
                         [](const Level& a, const Level& b) { return a.bytes < b.bytes; });
        levels.erase(std::unique(levels.begin(), levels.end(),
                                 [](const Level& a, const Level& b) { return a.bytes == b.bytes; }),
                     levels.end());
    }
    max_resident_ = in_.options.max_resident < 0
                        ? weighty_.size()
                        : std::min(weighty_.size(), static_cast<size_t>(in_.options.max_resident));
}

// The largest parts that are together at most `max_bytes`; neighbours among them make one piece while it is small.
Search::Level Search::level_of(const PlanStage& stage, uint64_t max_bytes) const {
    Level out;
    if (stage.parts.empty()) {
        if (stage.param_bytes <= max_bytes) out = {stage.param_bytes, {{}}, {stage.param_bytes}};
        return out;
    }
    std::vector<size_t> order(stage.parts.size());
    std::iota(order.begin(), order.end(), size_t{0});
    std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return stage.parts[a] > stage.parts[b]; });
    std::vector<size_t> taken;
    for (const size_t part : order) {
        if (stage.parts[part] == 0 || stage.parts[part] > max_bytes - out.bytes) continue;
        taken.push_back(part);
        out.bytes += stage.parts[part];
    }
    std::sort(taken.begin(), taken.end());
    for (const size_t part : taken) {
        if (out.pieces.empty() || out.pieces.back() * pieces_of_a_stage >= out.bytes) {
            out.pieces.push_back(0);
            out.parts.emplace_back();
        }
        out.pieces.back() += stage.parts[part];
        out.parts.back().push_back(part);
    }
    return out;
}

// The least that is streamed of a stage if at most so much of it is resident.
uint8_t Search::level_for(size_t stage, double resident_bytes) const {
    const std::vector<Level>& levels = levels_[stage];
    size_t level = 0;
    while (level + 1 < levels.size() && static_cast<double>(levels.back().bytes - levels[level].bytes) > resident_bytes)
        ++level;
    return static_cast<uint8_t>(level);
}

Choice Search::all_streamed() const {
    Choice out;
    for (const auto& levels : levels_) out.levels.push_back(static_cast<uint8_t>(levels.size() - 1));
    return out;
}

std::optional<Choice> Search::best(const Grouping& grouping, double good_seconds, int64_t effort) {
    grouping_ = grouping;
    good_seconds_ = good_seconds;
    effort_ = effort;
    best_.reset();
    starts_.clear();
    Choice all = all_streamed();
    std::fill(all.levels.begin(), all.levels.end(), uint8_t{0});
    offer(all);
    if (best_) return best_;
    offer(all_streamed());
    if (!in_.streams()) return best_;
    if (weighty_.size() <= max_tried_all) try_all();
    // The ring from the largest stage's size to all of the room. The rest is for residents.
    const double least = static_cast<double>(std::max<uint64_t>(largest_, 1)),
                 room = static_cast<double>(grouping.room);
    for (uint64_t i = 0; i <= starts_between + 1 && room > least; ++i) {
        const double ring = least * std::pow(room / least, static_cast<double>(i) / (starts_between + 1));
        offer_patterns(static_cast<uint64_t>(std::max(0.0, room - ring)));
    }
    std::vector<Choice> starts = std::move(starts_);
    std::stable_sort(starts.begin(), starts.end(), [](const Choice& a, const Choice& b) { return a.better_than(b); });
    if (starts.size() > max_starts_improved) starts.resize(max_starts_improved);
    const int64_t each = effort_ / static_cast<int64_t>(std::max<size_t>(starts.size(), 1));
    for (size_t i = 0; i < starts.size() && best_->seconds > good_seconds_; ++i) {
        effort_ = each;
        improve(std::move(starts[i]));
    }
    return best_;
}

Choice Search::with_more_resident(const Grouping& grouping, Choice choice) {
    if (!in_.streams()) return choice;
    grouping_ = grouping;
    std::vector<size_t> order = weighty_;
    std::stable_sort(order.begin(), order.end(),
                     [&](size_t a, size_t b) { return streamed_of(choice, a) > streamed_of(choice, b); });
    for (const size_t i : order) {
        if (choice.levels[i] == 0) break;  // as are those that follow
        for (const int level : {0, choice.levels[i] - 1}) {
            Choice tried = choice;
            tried.levels[i] = static_cast<uint8_t>(level);
            if (!judge(tried) || !tried.better_than(choice)) continue;
            choice = std::move(tried);
            break;
        }
    }
    return choice;
}

// Gives each piece its place; false if the room does not hold it.
bool Search::place(const Choice& choice) {
    pieces_.clear();
    uint64_t streamed = 0;
    size_t residents = 0;
    for (const size_t i : weighty_) {
        const Level& level = levels_[i][choice.levels[i]];
        streamed += level.bytes;
        residents += level.bytes == 0 ? 1 : 0;
        for (const uint64_t bytes : level.pieces) pieces_.push_back({i, bytes});
    }
    effort_ -= static_cast<int64_t>(weighty_.size() + 4 * pieces_.size());
    const uint64_t resident = all_bytes_ - streamed;
    if (resident > grouping_.room || residents > max_resident_) return false;
    uint64_t ring = grouping_.room - resident;
    if (in_.options.max_slot_bytes > 0) ring = std::min(ring, in_.options.max_slot_bytes);
    if (pieces_.empty()) return true;
    return choice.slots == 1 ? layout_.ring(pieces_, ring) : layout_.slots(pieces_, choice.slots, ring);
}

bool Search::judge(Choice& choice) {
    if (!place(choice)) return false;
    works_.clear();
    work_of_.clear();
    bool merges = false;  // with the resident stage before
    choice.streamed = 0;
    const double dispatch = in_.options.dispatch_seconds * grouping_.together / grouping_.group;
    for (size_t i = 0; i < n_; ++i) {
        const Level& level = levels_[i][choice.levels[i]];
        const double seconds = in_.stages[i].seconds * grouping_.together;
        const bool resident = level.bytes == 0;
        if (resident && merges)
            works_.back().seconds += seconds;
        else
            works_.push_back({seconds + dispatch, level.pieces.size()});
        merges = resident;
        work_of_.push_back(works_.size() - 1);
        choice.streamed += level.bytes;
    }
    uploads_.clear();
    const auto pieces = std::ssize(pieces_), works = std::ssize(works_);
    for (size_t k = 0; k < pieces_.size(); ++k) {
        const int64_t before = layout_.after()[k];
        const size_t owner = pieces_[static_cast<size_t>(before < 0 ? before + pieces : before)].owner;
        uploads_.push_back({static_cast<double>(pieces_[k].bytes) / in_.options.link_bytes_per_s,
                            static_cast<int64_t>(work_of_[owner]) - (before < 0 ? works : 0)});
    }
    choice.seconds = simulation_.steady_seconds(works_, uploads_, Order::continuous, quick);
    effort_ -= (quick.warm + quick.counted) * static_cast<int64_t>(works_.size() + uploads_.size());
    return true;
}

void Search::offer(Choice choice) {
    for (choice.slots = 1; choice.slots <= max_slots && (effort_ > 0 || !best_); ++choice.slots) {
        if (!judge(choice)) continue;
        if (!best_ || choice.better_than(*best_)) best_ = choice;
        starts_.push_back(choice);
        if (choice.streamed == 0) return;
    }
}

// Choices with about `resident_bytes` resident: evenly spread, stages that compute the least for their bytes first, and
// so on.
void Search::offer_patterns(uint64_t resident_bytes) {
    auto room = static_cast<double>(resident_bytes);
    if (max_resident_ < weighty_.size())
        room = std::min(room, static_cast<double>(all_bytes_ / weighty_.size() * max_resident_));
    const auto bytes_of = [&](size_t i) { return static_cast<double>(in_.stages[i].param_bytes); };
    // `share(i)` bytes of each stage, carrying over to the next what a stage cannot give exactly
    const auto spread = [&](auto share) {
        Choice out = all_streamed();
        double owed = 0;
        size_t residents = 0;
        for (const size_t i : weighty_) {
            owed += share(i);
            if (residents == max_resident_) break;
            out.levels[i] = level_for(i, owed);
            residents += out.levels[i] == 0 ? 1 : 0;
            owed -= bytes_of(i) - static_cast<double>(streamed_of(out, i));
        }
        return out;
    };
    offer(spread([&](size_t i) { return room / static_cast<double>(all_bytes_) * bytes_of(i); }));
    // streamed in proportion to compute, as far as a stage has it
    double low = 0, high = static_cast<double>(all_bytes_);
    double longest = 0;
    for (const size_t i : weighty_) longest = std::max(longest, in_.stages[i].seconds);
    if (longest > 0) {
        const auto kept = [&](size_t i, double most) {
            return std::max(0.0, bytes_of(i) - most * in_.stages[i].seconds / longest);
        };
        high *= 16;
        for (int round = 0; round < 24; ++round) {
            const double middle = (low + high) / 2;
            double sum = 0;
            for (const size_t i : weighty_) sum += kept(i, middle);
            (sum > room ? low : high) = middle;
        }
        offer(spread([&](size_t i) { return kept(i, high); }));
    }
    const auto in_order = [&](auto key) {
        std::vector<size_t> order = weighty_;
        std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return key(a) > key(b); });
        Choice out = all_streamed();
        double left = room;
        size_t residents = 0;
        for (const size_t i : order) {
            if (residents == max_resident_) break;
            out.levels[i] = level_for(i, left);
            residents += out.levels[i] == 0 ? 1 : 0;
            left -= bytes_of(i) - static_cast<double>(streamed_of(out, i));
        }
        return out;
    };
    const double link = in_.options.link_bytes_per_s;
    offer(in_order([](size_t) { return 0; }));  // the first ones
    offer(in_order(bytes_of));
    offer(in_order([&](size_t i) { return bytes_of(i) / link - in_.stages[i].seconds * grouping_.together; }));
}

// Every set of stages that are resident as a whole.
void Search::try_all() {
    for (uint64_t set = 1; set + 1 < uint64_t{1} << weighty_.size() && !(best_ && best_->seconds <= good_seconds_);
         ++set) {
        Choice choice = all_streamed();
        for (size_t k = 0; k < weighty_.size(); ++k)
            if (set >> k & 1) choice.levels[weighty_[k]] = 0;
        offer(std::move(choice));
    }
}

// Small changes, taken unless they make it slower.
void Search::improve(Choice choice) {
    Random random;
    while (effort_ > 0 && choice.seconds > good_seconds_) {
        Choice tried = choice;
        const size_t i = weighty_[random.below(weighty_.size())], j = weighty_[random.below(weighty_.size())];
        const auto more = [&](size_t stage) {
            if (tried.levels[stage] + size_t{1} < levels_[stage].size()) ++tried.levels[stage];
        };
        const auto less = [&](size_t stage) {
            if (tried.levels[stage] > 0) --tried.levels[stage];
        };
        switch (random.below(5)) {
            case 4:
                tried.slots = static_cast<uint8_t>(1 + random.below(max_slots));
                break;
            case 0:
                tried.levels[i] = static_cast<uint8_t>(random.below(levels_[i].size()));
                break;
            case 1:
                more(i);
                break;
            case 2:
                less(i);
                break;
            default:
                more(i);
                less(j);
        }
        if (tried.levels == choice.levels && tried.slots == choice.slots) {
            --effort_;
            continue;
        }
        if (!judge(tried) || tried.seconds > choice.seconds * (1 + 1e-9)) continue;
        choice = std::move(tried);
        if (choice.better_than(*best_)) best_ = choice;
    }
}

std::vector<int64_t> Search::lay_out(const Grouping& grouping, const Choice& choice, Plan& plan) {
    grouping_ = grouping;
    place(choice);
    size_t k = 0;
    for (const size_t i : weighty_) {
        const Level& level = levels_[i][choice.levels[i]];
        for (size_t piece = 0; piece < level.pieces.size(); ++piece, ++k)
            plan.pieces.push_back({0, i, level.parts[piece], level.pieces[piece], layout_.offsets()[k], 0});
    }
    if (k == 0) return {};
    plan.slots = layout_.slot_bytes();
    return layout_.after();
}

}  // namespace sdcpp::planning
