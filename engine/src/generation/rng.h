// Standard normal noise, equal to PyTorch's for the same seed.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace sdcpp {

// A generator's name and seed.
struct Origin {
    std::string rng;
    uint64_t seed;
};

class Rng {
  public:
    virtual ~Rng() = default;
    virtual void normal(std::span<float> out) = 0;
    // Each picture's.
    virtual std::vector<Origin> origins() const = 0;
};

// "cuda": torch.randn on a CUDA device (Philox 4x32-10); "cpu": torch.randn on the CPU (mt19937).
// Throws SDCPP_INVALID_ARGUMENT for another name.
std::unique_ptr<Rng> make_rng(const std::string& name, uint64_t seed);

const std::vector<std::string>& rng_names();

}  // namespace sdcpp
