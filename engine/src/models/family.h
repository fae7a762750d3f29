// The families of models: what belongs together, and what the tensors do not show. A new one is a row in family.cpp.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "models/denoiser.h"
#include "models/text_encoder.h"

namespace sdcpp {

struct Family {
    std::string name, title;
    bool (*fits)(const ModelFiles& files);
    std::unique_ptr<Denoiser> (*denoiser)(const ModelFiles& files);
    std::vector<std::string> text_encoders;  // whose states it takes, side by side
    bool normed_states;                      // with the encoder's final norm
    bool zeros_for_nothing;                  // an empty negative prompt is zeros
    double latent_scale, latent_shift;       // of the autoencoder, where its config does not say
    // A flow from noise to picture (Lipman et al. 2023; Esser et al. 2024) rather than a diffusion; and its shift
    // towards noise, where the config does not say.
    bool flow;
    double flow_shift;
    std::vector<double> aligned_sigmas;             // of the schedule "ays"; empty: none are published
    bool (*v_prediction)(const ModelFiles& files);  // where the config does not say
    std::map<std::string, std::string> (*defaults)(const ModelFiles& files);  // of generation options
};

// The family whose denoiser the files hold; Stable Diffusion 1.x where they hold none.
const Family& family_of(const ModelFiles& files);
const std::vector<Family>& families();

// Those of all families, by the names that their tensors begin with.
const std::vector<std::string>& text_encoder_names();

// Every network that the files hold, by name: text encoders, denoiser, "vae.decoder", "vae.encoder", "taesd.decoder",
// "taesd.encoder". Throws SDCPP_UNSUPPORTED_MODEL where there is none.
struct NamedNetwork {
    std::string name;
    std::unique_ptr<Network> network;
};
std::vector<NamedNetwork> make_networks(const ModelFiles& files);

}  // namespace sdcpp
