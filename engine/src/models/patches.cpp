#include "models/patches.h"

namespace sdcpp {
namespace {

// Calls visit(place in the latent, place in its token's patch, token) for each value of one row.
template <typename Visit>
void each_value(const LatentShape& shape, int64_t patch, PatchOrder order, Visit visit) {
    const int64_t rows = shape.height / patch, columns = shape.width / patch, area = patch * patch;
    for (int64_t token = 0; token < rows * columns; ++token)
        for (int64_t inner = 0; inner < area; ++inner) {
            const int64_t row = token / columns * patch + inner / patch;
            const int64_t at = row * shape.width + token % columns * patch + inner % patch;
            for (int64_t channel = 0; channel < shape.channels; ++channel)
                visit(static_cast<size_t>(channel * shape.height * shape.width + at),
                      static_cast<size_t>(order == PatchOrder::channel_first ? channel * area + inner
                                                                             : inner * shape.channels + channel),
                      static_cast<size_t>(token));
        }
}

}  // namespace

std::vector<float> patches(std::span<const float> x, const LatentShape& shape, int64_t patch, PatchOrder order) {
    std::vector<float> out(x.size());
    const auto one = static_cast<size_t>(shape.count()), width = static_cast<size_t>(shape.channels * patch * patch);
    for (size_t first = 0; first < x.size(); first += one)
        each_value(shape, patch, order,
                   [&](size_t at, size_t in, size_t token) { out[first + token * width + in] = x[first + at]; });
    return out;
}

Array patches_with_references(const Noisy& noisy, int64_t patch, PatchOrder order) {
    std::vector<float> own = patches(noisy.x, noisy.shape, patch, order), behind;
    for (const Noisy::Reference& reference : noisy.references) {
        const std::vector<float> part = patches(reference.x, reference.shape, patch, order);
        behind.insert(behind.end(), part.begin(), part.end());
    }
    const int64_t rows = noisy.rows(), width = noisy.shape.channels * patch * patch;
    const auto each = static_cast<std::ptrdiff_t>(own.size()) / rows;
    std::vector<float> out;
    if (behind.empty())
        out = std::move(own);
    else
        for (int64_t row = 0; row < rows; ++row) {
            out.insert(out.end(), own.begin() + row * each, own.begin() + (row + 1) * each);
            out.insert(out.end(), behind.begin(), behind.end());
        }
    const int64_t tokens = static_cast<int64_t>(out.size()) / (rows * width);
    return Array::of("x", {rows, tokens, width}, std::move(out));
}

std::vector<float> from_patches(const Array& tokens, const LatentShape& shape, int64_t patch, PatchOrder order) {
    const auto one = static_cast<size_t>(shape.count()), width = static_cast<size_t>(tokens.shape[2]);
    std::vector<float> out(static_cast<size_t>(tokens.shape[0]) * one);
    for (int64_t n = 0; n < tokens.shape[0]; ++n) {
        const std::span<const float> own = tokens.row(n);
        each_value(shape, patch, order, [&](size_t at, size_t in, size_t token) {
            out[static_cast<size_t>(n) * one + at] = own[token * width + in];
        });
    }
    return out;
}

}  // namespace sdcpp
