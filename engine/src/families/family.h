// The families of models: the components that belong together, and facts that tensors do not show. A family is one
// file and one entry in families.cpp.
#pragma once

#include <algorithm>
#include <array>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "families/component.h"
#include "generation/latent.h"

namespace sdcpp {

// Hidden states of a text encoder that become part of a conditioning.
struct TextStates {
    std::string_view encoder;       // a component
    std::vector<int> layers_off{};  // states without so many last layers, side by side; empty: by the user's clip_skip
    bool normed = false;            // by the encoder's final norm
    std::vector<int> layers{};      // in place of layers_off: states after so many layers
    bool hides_padding = false;     // no token sees padding
    // How many states lie side by side.
    size_t count() const { return layers.empty() ? std::max<size_t>(1, layers_off.size()) : layers.size(); }
};

// What tells language models of one shape apart: the base of their rotary positions.
struct LanguageModel {
    std::string_view title;  // for people
    double rotary_base = 1e6;
};

constexpr int one_more = -1;  // one token of padding follows each prompt

struct TextRecipe {
    // States side by side along channels make a row; rows follow each other along tokens, the narrower ones padded
    // with zeros. They are the array "context".
    std::vector<std::vector<TextStates>> context;
    struct PooledFrom {
        std::string_view encoder;
        bool projected = true;
    };
    std::vector<PooledFrom> pooled{};  // vectors for the whole text that, joined, are the array "pooled"
    bool zeros_for_empty_negative = false;
    bool mixes_lengths = false;        // texts of different lengths may go through the denoiser together
    std::string_view chat_template{};  // for language models; "{}" stands for the prompt
    std::string_view for_empty{};      // the text that stands for an empty prompt
    int left_out = 0;                  // so many first tokens, which are the template's, do not go on
    LanguageModel language_model{};    // that it takes; no title: any
    // Tokens that an encoder's prompts are padded to, or one_more.
    std::map<std::string_view, int (*)(const ModelFiles&)> lengths{};

    // The encoders in the order in which they run, each once.
    std::vector<std::string_view> encoders() const;
};

// How a flow's levels of noise are moved towards noise (Esser et al. 2024).
struct FlowShift {
    double fixed = 1;
    // Grows with the number of patches of 2x2, linear in its logarithm, from `low` at `few` to `high` at `many`.
    bool dynamic = false;
    double few = 256, many = 4096, low = 0.5, high = 1.15;
    bool settled = false;  // whatever a scheduler's config says
    // In place of these: the logarithm for so many patches and steps.
    double (*logarithm)(double patches, int steps) = nullptr;
    double terminal = 0;  // levels are stretched so that the last one above zero is this; 0: they are not
};

// The denoiser's kind of prediction, and the levels of noise that it knows.
struct Prediction {
    bool flow = false;  // from noise to picture (Lipman et al. 2023) rather than a diffusion
    FlowShift (*flow_shift)(const ModelFiles& files) = nullptr;  // if the config does not say
    std::span<const double> aligned_sigmas{};                    // the schedule "ays"; empty: none are published
    std::span<const double> geometric_sigmas{};                  // the schedule "gits"
    bool (*v_prediction)(const ModelFiles& files) = nullptr;     // for a diffusion, if the config does not say
    bool mends_schedulers = false;                               // see scheduler_config()
};

// How pictures that a model is to follow are prepared for it.
struct References {
    int64_t pixels = 1024 * 1024;                 // larger ones are made as large …
    std::vector<std::array<int64_t, 2>> sizes{};  // … or each gets the width and height that are nearest to its shape
};

struct Family {
    std::string_view name, title;
    // How many facts show that the files are this family's; 0: none. Most facts win.
    int (*recognises)(const ModelFiles& files);
    std::string_view denoiser;  // a component
    TextRecipe text;
    std::string_view autoencoder = "vae";  // a component
    LatentSpace latent;
    Prediction prediction;
    std::map<std::string, std::string> (*defaults)(const ModelFiles& files);  // generation options by name
    // Whether and how the model takes reference pictures; null: it does not.
    std::optional<References> (*references)(const ModelFiles& files) = nullptr;
    // Prefixes that other programs expect in this family's files, by component, in place of the component's own.
    std::map<std::string_view, std::string_view> public_prefixes{};
};

const std::vector<const Family*>& families();
// The family whose denoiser the files hold; the default one if they hold none.
const Family& family_of(const ModelFiles& files);
const Family& default_family();

using Defaults = std::map<std::string, std::string>;

// The families, each in its file.
extern const Family sd1, sd2, sdxl, sdxl_refiner, z_image_family, flux_1, krea_2, flux_2_family, qwen_image_family,
    chroma, sd3_family;

// Shared by families of one descent.
namespace latents {
LatentSpace sd();      // four channels
LatentSpace sdxl();    // four channels of another autoencoder
LatentSpace flux();    // sixteen, with a shift
LatentSpace flux_2();  // thirty-two in patches of 2x2, which the autoencoder norms
LatentSpace sd3();     // sixteen, with a shift of its own
LatentSpace wan();     // sixteen, with a mean and a deviation for each
}  // namespace latents

// Whether the denoiser's file is named so: its name holds `word` between other signs than letters, whatever its case.
bool denoiser_is_named(const ModelFiles& files, const Family& family, std::string_view word);
// Whether the files carry the mark of models that predict v.
bool marked_v(const ModelFiles& files);
// Noise levels of "Align Your Steps" (Sabour et al. 2024).
// "On the Trajectory Regularity of ODE-based Diffusion Sampling" (Chen et al. 2024, arXiv 2405.11326).
inline constexpr std::array geometric_sigmas_sd1 = {14.615, 4.617, 2.507, 1.236, .702, .402,
                                                    .24,    .156,  .104,  .094,  .029};
inline constexpr std::array geometric_sigmas_sdxl = {14.615, 4.734, 2.567, 1.529, .987, .652,
                                                     .418,   .268,  .179,  .127,  .029};
inline constexpr std::array aligned_sigmas_sd1 = {14.6146412293, 6.4745760956, 3.8636745985, 2.6946151520,
                                                  1.8841921177,  1.3943805092, 0.9642583904, 0.6523686016,
                                                  0.3977456272,  0.1515232662, 0.0291671582};
inline constexpr std::array aligned_sigmas_sdxl = {14.6146412293, 6.3184485287, 3.7681790315, 2.1811480769,
                                                   1.3405244945,  0.8620721141, 0.5550693289, 0.3798540708,
                                                   0.2332364134,  0.1114188177, 0.0291671582};

}  // namespace sdcpp
