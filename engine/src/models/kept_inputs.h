// Inputs that depend on sizes alone: a run's steps, and runs of the same sizes, share them.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "models/denoiser.h"

namespace sdcpp {

// The sizes that a picture's patches and texts of different lengths make inputs of.
struct PatchSizes {
    int64_t rows = 0, columns = 0;  // patches
    std::vector<int64_t> texts{};   // tokens
    bool operator==(const PatchSizes&) const = default;

    static PatchSizes of(const Noisy& noisy, int64_t patch) {
        PatchSizes out = {noisy.shape.height / patch, noisy.shape.width / patch, {}};
        for (const Conditioning* one : noisy.conditionings) out.texts.push_back(one->at("context").shape[1]);
        return out;
    }
};

// The sizes that a picture and its reference pictures, behind a text, make inputs of.
struct PictureSizes {
    int64_t batch = 0, text = 0;          // text: tokens, padded
    std::vector<LatentShape> pictures{};  // the latent, and those of reference pictures
    bool operator==(const PictureSizes&) const = default;

    static PictureSizes of(const Noisy& noisy, int64_t text) {
        PictureSizes out = {noisy.rows(), text, {noisy.shape}};
        for (const Noisy::Reference& reference : noisy.references) out.pictures.push_back(reference.shape);
        return out;
    }
};

// The last run's inputs, for the next one of the same sizes.
template <typename Sizes>
class KeptInputs {
  public:
    // What `make` makes of the sizes.
    template <typename Make>
    const std::vector<Array>& of(Sizes sizes, const Make& make) {
        if (arrays_.empty() || sizes != sizes_) {
            arrays_ = make(sizes);
            sizes_ = std::move(sizes);
        }
        return arrays_;
    }

  private:
    std::vector<Array> arrays_;
    Sizes sizes_;
};

}  // namespace sdcpp
