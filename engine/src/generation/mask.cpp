#include "generation/mask.h"

#include <utility>

#include "generation/start.h"

namespace sdcpp {
namespace {

Floats mixed(const Floats& mask, const Floats& where_one, const Floats& where_zero) {
    Floats out(mask.size());
    for (size_t i = 0; i < out.size(); ++i) out[i] = where_one[i] * mask[i] + where_zero[i] * (1 - mask[i]);
    return out;
}

}  // namespace

Denoise masked(Denoise clean, const Kept& kept) {
    return [clean = std::move(clean), &kept](const Floats& x, double sigma) {
        Floats mask = kept.mask;
        if (kept.threshold) {
            const auto least = static_cast<float>(kept.threshold(sigma));
            for (float& value : mask) value = value >= least ? 1.0f : 0.0f;
        }
        const Floats under = noised(kept.noise, kept.latent, sigma, kept.flow);
        return mixed(mask, clean(mixed(mask, x, under), sigma), kept.latent);
    };
}

void put_back(Floats& x, const Kept& kept) {
    Floats mask = kept.mask;
    if (kept.threshold)
        for (float& value : mask) value = value > 0 ? 1.0f : 0.0f;
    x = mixed(mask, x, kept.latent);
}

}  // namespace sdcpp
