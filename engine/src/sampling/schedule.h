// Noise levels: the model's own (NoiseTable) and the sequences of them that samplers follow (schedules).
#pragma once

#include <string>
#include <vector>

namespace sdcpp {

// The training noise of a variance-preserving model: sigma of each timestep, sqrt((1 - a) / a) with a the product of 1
// - beta.
class NoiseTable {
  public:
    // `kind` "scaled_linear" (Stable Diffusion) or "linear" (DDPM).
    NoiseTable(const std::string& kind, double beta_start, double beta_end, int timesteps);
    NoiseTable() : NoiseTable("scaled_linear", 0.00085, 0.012, 1000) {}

    const std::vector<double>& sigmas() const { return sigmas_; }
    double sigma_min() const { return sigmas_.front(); }
    double sigma_max() const { return sigmas_.back(); }
    // Between timesteps log(sigma) is interpolated, as k-diffusion does.
    double sigma_of(double timestep) const;
    double timestep_of(double sigma) const;

  private:
    std::vector<double> sigmas_, log_sigmas_;
};

// steps + 1 falling sigmas, the last one 0 ("beta" leaves out repeated ones). Throws SDCPP_INVALID_ARGUMENT for an
// unknown name.
std::vector<double> make_sigmas(const std::string& scheduler, int steps, const NoiseTable& table);

const std::vector<std::string>& scheduler_names();

}  // namespace sdcpp
