#include "generation/brownian.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <utility>

namespace sdcpp {
namespace {

constexpr int digits = 6;  // a time is rounded to so many behind the point

// As Python's round(): to the nearest decimal number, by the exact binary value.
double rounded(double time) {
    std::array<char, 64> text{};
    const auto written = std::to_chars(text.data(), text.data() + text.size(), time, std::chars_format::fixed, digits);
    double out = time;
    (void)std::from_chars(text.data(), written.ptr, out);
    return out;
}

void append_words(std::vector<uint32_t>& words, uint64_t value) {
    words.push_back(static_cast<uint32_t>(value));
    if (value >> 32) words.push_back(static_cast<uint32_t>(value >> 32));
}

// Hashes one word after another with a factor that goes on from word to word.
class Hash {
  public:
    Hash(uint32_t first, uint32_t factor) : state_(first), factor_(factor) {}
    uint32_t operator()(uint32_t value) {
        value ^= state_;
        state_ *= factor_;
        value *= state_;
        return value ^ value >> 16;
    }

  private:
    uint32_t state_, factor_;
};

uint32_t mixed(uint32_t x, uint32_t y) {
    const uint32_t value = 0xca01f9ddu * x - 0x4973f715u * y;
    return value ^ value >> 16;
}

}  // namespace

// O'Neill 2015, "Developing a seed_seq alternative", as numpy has it.
std::vector<uint32_t> seed_words(uint64_t entropy, const std::vector<uint64_t>& spawn_key, size_t count) {
    std::array<uint32_t, 24> pool{};
    std::vector<uint32_t> words;
    append_words(words, entropy);
    if (!spawn_key.empty()) words.resize(std::max(words.size(), pool.size()), 0);
    for (const uint64_t key : spawn_key) append_words(words, key);

    Hash in(0x43b0d7e5u, 0x931e8875u);
    for (size_t i = 0; i < pool.size(); ++i) pool[i] = in(i < words.size() ? words[i] : 0);
    for (size_t from = 0; from < pool.size(); ++from)
        for (size_t to = 0; to < pool.size(); ++to)
            if (from != to) pool[to] = mixed(pool[to], in(pool[from]));
    for (size_t from = pool.size(); from < words.size(); ++from)
        for (uint32_t& to : pool) to = mixed(to, in(words[from]));

    Hash out(0x8b51f9ddu, 0x58f38dedu);
    std::vector<uint32_t> made;
    for (size_t i = 0; i < count; ++i) made.push_back(out(pool[i % pool.size()]));
    return made;
}

BrownianTree::BrownianTree(Origin origin, double first, double last, size_t count)
    : origin_(std::move(origin)), first_(rounded(first)), last_(rounded(last)), count_(count) {
    const double size = std::sqrt(last - first);
    for (const float value : noise(seed_words(origin_.seed, {}, 1)[0])) whole_.push_back(value * size);
}

Floats BrownianTree::noise(uint32_t seed) const {
    Floats out(count_);
    make_rng(origin_.rng, seed)->normal(out);
    return out;
}

// Down the tree: within a half, the way to its middle is the half of its own way and noise of its own.
std::vector<double> BrownianTree::at(double time) const {
    std::vector<double> before(count_, 0.0), within = whole_;
    double left = first_, right = last_;
    uint64_t key = 0;
    for (uint64_t depth = 0; time > left && time < right; ++depth) {
        const double middle = rounded((left + right) / 2);
        if (middle <= left || middle >= right) break;
        const Floats own = noise(seed_words(origin_.seed, {key, depth}, 1)[0]);
        const double share = (middle - left) / (right - left), spread = std::sqrt((right - middle) * share);
        const bool beyond = time >= middle;
        for (size_t i = 0; i < count_; ++i) {
            const double first_half = share * within[i] + spread * own[i];
            if (beyond) before[i] += first_half;
            within[i] = beyond ? within[i] - first_half : first_half;
        }
        (beyond ? left : right) = middle;
        key = 2 * key + (beyond ? 1 : 0);
    }
    if (time >= right)
        for (size_t i = 0; i < count_; ++i) before[i] += within[i];
    return before;
}

Floats BrownianTree::step(double from, double to) const {
    const std::vector<double> start = at(rounded(from)), end = at(rounded(to));
    const double size = std::sqrt(std::abs(to - from));
    Floats out(count_);
    for (size_t i = 0; i < count_; ++i) out[i] = static_cast<float>((end[i] - start[i]) / size);
    return out;
}

}  // namespace sdcpp
