#include "generation/rng.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <optional>
#include <random>
#include <utility>

#include "base/names.h"

namespace sdcpp {
namespace {

// Philox 4x32 with 10 rounds (Salmon et al. 2011), one counter a number as PyTorch's CUDA generator uses it.
class Philox : public Rng {
  public:
    explicit Philox(uint64_t seed) : key_{static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)} {}

    std::vector<Origin> origins() const override { return {{"cuda", uint64_t{key_[1]} << 32 | key_[0]}}; }

    void normal(std::span<float> out) override {
        for (size_t i = 0; i < out.size(); ++i) {
            std::array<uint32_t, 4> counter = {offset_, 0, static_cast<uint32_t>(i), 0};
            std::array<uint32_t, 2> key = key_;
            for (int round = 0; round < 10; ++round) {
                const uint64_t a = uint64_t{0xD2511F53} * counter[0], b = uint64_t{0xCD9E8D57} * counter[2];
                counter = {static_cast<uint32_t>(b >> 32) ^ counter[1] ^ key[0], static_cast<uint32_t>(b),
                           static_cast<uint32_t>(a >> 32) ^ counter[3] ^ key[1], static_cast<uint32_t>(a)};
                key[0] += 0x9E3779B9;
                key[1] += 0xBB67AE85;
            }
            constexpr float unit = 1.0f / 4294967296.0f, turn = unit * 2.0f * std::numbers::pi_v<float>;
            const float u = static_cast<float>(counter[0]) * unit + unit / 2;
            const float v = static_cast<float>(counter[1]) * turn + turn / 2;
            out[i] = std::sqrt(-2.0f * std::log(u)) * std::sin(v);
        }
        ++offset_;
    }

  private:
    std::array<uint32_t, 2> key_;
    uint32_t offset_ = 0;
};

// mt19937 with PyTorch's two ways to normal numbers: blocks of 16 in f32 for 16 or more, pairs in f64 below that.
class Mersenne : public Rng {
  public:
    explicit Mersenne(uint64_t seed) : seed_(seed), engine_(static_cast<uint32_t>(seed)) {}

    std::vector<Origin> origins() const override { return {{"cpu", seed_}}; }

    void normal(std::span<float> out) override {
        if (out.size() < 16) {
            for (float& value : out) value = static_cast<float>(one());
            return;
        }
        for (float& value : out) value = uniform();
        for (size_t at = 0; at + 15 < out.size(); at += 16) transform(out.subspan(at, 16));
        if (out.size() % 16 != 0) {  // the last block overlaps the one before it and is drawn anew
            const auto tail = out.last(16);
            for (float& value : tail) value = uniform();
            transform(tail);
        }
    }

  private:
    float uniform() { return static_cast<float>(engine_() & 0xFFFFFF) * (1.0f / 16777216.0f); }
    double uniform_double() {
        const uint64_t high = engine_(), low = engine_();
        return static_cast<double>((high << 32 | low) & ((uint64_t{1} << 53) - 1)) * (1.0 / 9007199254740992.0);
    }
    static void transform(std::span<float> block) {
        for (size_t i = 0; i < 8; ++i) {
            const float u = 1.0f - block[i], v = block[i + 8];
            const float radius = std::sqrt(-2.0f * std::log(u)), angle = 2.0f * std::numbers::pi_v<float> * v;
            block[i] = radius * std::cos(angle);
            block[i + 8] = radius * std::sin(angle);
        }
    }
    double one() {
        if (spare_) return *std::exchange(spare_, std::nullopt);
        const double u = uniform_double(), v = uniform_double();
        const double radius = std::sqrt(-2.0 * std::log1p(-v)), angle = 2.0 * std::numbers::pi * u;
        spare_ = radius * std::sin(angle);
        return radius * std::cos(angle);
    }

    uint64_t seed_;
    std::mt19937 engine_;
    std::optional<double> spare_;
};

}  // namespace

const std::vector<std::string>& rng_names() {
    static const std::vector<std::string> names = {"cuda", "cpu"};
    return names;
}

std::unique_ptr<Rng> make_rng(const std::string& name, uint64_t seed) {
    if (require_name(OptionName{"rng"}, name, rng_names()) == "cuda") return std::make_unique<Philox>(seed);
    return std::make_unique<Mersenne>(seed);
}

}  // namespace sdcpp
