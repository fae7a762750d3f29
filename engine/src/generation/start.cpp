#include "generation/start.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"

namespace sdcpp {

Floats for_each_picture(const Floats& values, size_t one, int batch, const char* what) {
    const auto all = one * static_cast<size_t>(batch);
    if (values.size() == all) return values;
    if (values.size() != one)
        fail(SDCPP_INVALID_ARGUMENT, OptionName{what}, " holds ", values.size(), " numbers; ", one,
             " for a picture or ", all, " for the batch are needed");
    Floats out;
    out.reserve(all);
    for (int i = 0; i < batch; ++i) out.insert(out.end(), values.begin(), values.end());
    return out;
}

Start::Begun Start::begin(std::vector<double> sigmas, Rng& rng, size_t one, int batch, bool flow) const {
    if (!(strength >= 0 && strength <= 1))
        fail(SDCPP_INVALID_ARGUMENT, OptionName{"strength"}, " is ", strength, "; 0 to 1 are possible");
    Begun out;
    Floats first =
        noise.empty() ? Floats(one * static_cast<size_t>(batch)) : for_each_picture(noise, one, batch, "noise");
    if (noise.empty()) rng.normal(first);
    Floats under;
    if (noisy && latent.empty())
        fail(SDCPP_INVALID_ARGUMENT, OptionName{"denoising_start"},
             " needs init_latent, which an earlier run has left");
    if (noisy) {
        out.x = for_each_picture(latent, one, batch, "init_latent");
        out.noise = std::move(first);
        out.latent = out.x;
        out.sigmas = std::move(sigmas);
        return out;
    }
    if (!latent.empty()) {
        under = for_each_picture(latent, one, batch, "init_latent");
        const auto steps = static_cast<std::ptrdiff_t>(sigmas.size()) - 1;
        const auto run = std::min(static_cast<std::ptrdiff_t>(strength * static_cast<double>(steps)) + 1, steps);
        sigmas.erase(sigmas.begin(), sigmas.end() - 1 - run);
    }
    const double level = sigmas.front();
    const bool more = unit_signal && latent.empty() && !flow;
    out.x = noised(first, under, more ? std::sqrt(level * level + 1) : level, flow);
    out.noise = std::move(first);
    out.latent = std::move(under);
    out.sigmas = std::move(sigmas);
    return out;
}

Floats noised(const Floats& noise, const Floats& latent, double sigma, bool flow) {
    Floats out(noise.size());
    const double signal = flow ? 1 - sigma : 1;
    for (size_t i = 0; i < out.size(); ++i)
        out[i] = static_cast<float>(latent.empty() ? noise[i] * sigma : latent[i] * signal + noise[i] * sigma);
    return out;
}

}  // namespace sdcpp
