// Noise levels: the model's own (NoiseTable) and the sequences of them that samplers follow (schedules).
#pragma once

#include <string>
#include <vector>

namespace sdcpp {

// The levels of noise that a model was trained at. Latents are signal * clean + sigma * noise.
class NoiseTable {
  public:
    // A diffusion, with a signal of 1: sigma is sqrt((1 - a) / a), a the product of 1 - beta. `kind` "scaled_linear"
    // (latent diffusion) or "linear" (DDPM). `zero_snr`: a falls to (almost) 0 at the last timestep (Lin et al. 2024).
    NoiseTable(const std::string& kind, double beta_start, double beta_end, int timesteps, bool zero_snr = false);
    NoiseTable() : NoiseTable("scaled_linear", 0.00085, 0.012, 1000) {}

    // A flow, with a signal of 1 - sigma: sigma is the share t of the way to noise, moved to shift t / (1 + (shift - 1)
    // t) (Esser et al. 2024).
    static NoiseTable flow(double shift);
    double terminal = 0;  // schedules are stretched so that their last level above zero is this; 0: they are not

    bool is_flow() const { return shift_ > 0; }
    const std::vector<double>& sigmas() const { return sigmas_; }
    double sigma_min() const { return sigmas_.front(); }
    double sigma_max() const { return sigmas_.back(); }
    // At a place in the table, also between entries. For a diffusion, log(sigma) is interpolated, as k-diffusion does.
    double sigma_of(double place) const;
    // The timestep that a network gets.
    double timestep_of(double sigma) const;

    std::vector<double> aligned_sigmas;    // the schedule "ays"; empty: none are known
    std::vector<double> geometric_sigmas;  // the schedule "gits", likewise
    double logit_mean = 0;                 // the normal distribution's mean in "logit_normal"
    int steps_offset = 1;                  // added to the timesteps of the schedule "leading"
    bool leading_past_last = false;        // "leading" is spaced for one more step, which is left out
    // The schedule of timesteps between whose first and last levels "karras" and "exponential" run; "": the table's.
    std::string range_of;

  private:
    std::vector<double> sigmas_, log_sigmas_;
    double shift_ = 0;  // 0: not a flow
};

// steps + 1 falling sigmas, the last one 0 ("beta" leaves out repeated ones). Throws SDCPP_INVALID_ARGUMENT for an
// unknown name.
std::vector<double> make_sigmas(const std::string& scheduler, int steps, const NoiseTable& table);

const std::vector<std::string>& scheduler_names();

}  // namespace sdcpp
