#include "generation/mask.h"

#include <cmath>
#include <utility>

#include "generation/start.h"

namespace sdcpp {
namespace {

Floats mixed(const Floats& mask, const Floats& where_one, const Floats& where_zero) {
    Floats out(mask.size());
    for (size_t i = 0; i < out.size(); ++i) out[i] = where_one[i] * mask[i] + where_zero[i] * (1 - mask[i]);
    return out;
}

// The clean estimate's share at a place is the mask's number to the power of sigma^bias * preservation. What lies
// between the two keeps a length between theirs.
Floats softly_mixed(const Kept& kept, const Floats& clean, double sigma) {
    const SoftInpainting& soft = kept.soft;
    const double power = std::pow(sigma, soft.bias) * soft.preservation;
    Floats out(clean.size());
    const size_t planes = kept.channels, plane = clean.size() / kept.pictures / planes;
    for (size_t picture = 0; picture < kept.pictures; ++picture)
        for (size_t place = 0; place < plane; ++place) {
            const size_t first = picture * planes * plane + place;
            const double share = std::pow(static_cast<double>(kept.mask[first]), power);
            double old_squares = 0, new_squares = 0, mixed_squares = 0;
            for (size_t c = 0; c < planes; ++c) {
                const double before = kept.latent[first + c * plane], now = clean[first + c * plane];
                const double between = (1 - share) * before + share * now;
                old_squares += before * before;
                new_squares += now * now;
                mixed_squares += between * between;
            }
            const double wanted = std::pow((1 - share) * std::pow(old_squares, soft.contrast / 2) +
                                               share * std::pow(new_squares, soft.contrast / 2),
                                           1 / soft.contrast);
            const double length = std::sqrt(mixed_squares);
            const double scale = share == 0 || share == 1 || length == 0 ? 1 : wanted / length;
            for (size_t c = 0; c < planes; ++c) {
                const size_t at = first + c * plane;
                out[at] = static_cast<float>(scale * ((1 - share) * kept.latent[at] + share * clean[at]));
            }
        }
    return out;
}

}  // namespace

Denoise masked(Denoise clean, const Kept& kept) {
    if (kept.soft.on)
        return [clean = std::move(clean), &kept](const Floats& x, double sigma) {
            return softly_mixed(kept, clean(x, sigma), sigma);
        };
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
    if (kept.soft.on) return;  // the last estimate has it
    Floats mask = kept.mask;
    if (kept.threshold)
        for (float& value : mask) value = value > 0 ? 1.0f : 0.0f;
    x = mixed(mask, x, kept.latent);
}

}  // namespace sdcpp
