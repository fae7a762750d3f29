// The components that models are made of, such as a UNet or a text encoder: how files name their tensors, and how their
// networks are made. One file a component, one entry in components.cpp.
#pragma once

#include <memory>
#include <string_view>
#include <vector>

#include "nn/network.h"
#include "weights/model_files.h"

namespace sdcpp {

enum class Role { text_encoder, denoiser, decoder, encoder, tiny_decoder, tiny_encoder, upscaler, vision_encoder };
std::string_view name_of(Role role);

struct Component {
    struct NetworkRow {
        std::string_view name;   // the network's, such as "vae.decoder"
        std::string_view title;  // for people
        Role role;
        std::string_view prefix;  // its tensors' canonical names begin so; the files hold it if there is one
        std::unique_ptr<Network> (*make)(const ModelFiles& files);
    };
    Naming naming;
    std::vector<NetworkRow> networks;
    std::string_view public_prefix;  // in files that this package writes, for other programs
    // How a user gives its file: the keyword, the flags of the command line separated by spaces, and the help.
    // Components may share a keyword.
    std::string_view option, flags, help;
};

// In the order in which networks run.
const std::vector<const Component*>& components();
const Component* find_component(std::string_view name);               // null if there is none
const Component::NetworkRow& network_of(const Component& component);  // its first network
const Component& component_of(const Component::NetworkRow& network);
// The components' namings, for reading files.
const Namings& namings();

// Opens the files of a model. Throws SDCPP_UNSUPPORTED_MODEL for one that is known not to be usable, with what it is.
ModelFiles open_files(const std::vector<ModelPath>& paths);

// Every network that the files hold, in the order of components(). Throws SDCPP_UNSUPPORTED_MODEL if there is none, or
// a diffusion model of no known sort.
struct NamedNetwork {
    const Component::NetworkRow* part;
    std::unique_ptr<Network> network;
};
std::vector<NamedNetwork> make_networks(const ModelFiles& files);

// Names, as in the files, of the tensors that no network uses. Those that are known to be left over in such files are
// not among them.
std::vector<std::string> unused_tensors(const ModelFiles& files, const std::vector<NamedNetwork>& networks);
// Logs a warning if there are any.
void warn_of_unused(const ModelFiles& files, const std::vector<NamedNetwork>& networks);

template <typename Net>
std::unique_ptr<Network> make_network(const ModelFiles& files) {
    return std::make_unique<Net>(files);
}

// The components, each in its file.
extern const Component clip_l, clip_g, clip_h, clip_vision, t5, llm, unet, z_image, flux, flux_2, krea, qwen_image, sd3,
    vae, wan_vae, taesd, esrgan, srvgg;

}  // namespace sdcpp
