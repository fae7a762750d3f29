#include <algorithm>

#include "base/error.h"
#include "families/component.h"
#include "families/family.h"

namespace sdcpp {

const std::vector<const Component*>& components() {
    static const std::vector<const Component*> all = {&clip_l, &clip_g,  &clip_h, &t5,  &llm,
                                                      &unet,   &z_image, &flux,   &vae, &taesd};
    return all;
}

const Component* find_component(std::string_view name) {
    for (const Component* component : components())
        if (component->naming.name == name) return component;
    return nullptr;
}

const Component::NetworkRow& network_of(const Component& component) { return component.networks.front(); }

const Namings& namings() {
    static const Namings all = [] {
        Namings out;
        for (const Component* component : components()) out.push_back(&component->naming);
        return out;
    }();
    return all;
}

std::vector<NamedNetwork> make_networks(const ModelFiles& files) {
    std::string titles;
    for (const Family* family : families()) titles += (titles.empty() ? "" : ", ") + std::string(family->title);
    if (files.has_prefix("unknown."))
        fail(SDCPP_UNSUPPORTED_MODEL, "the diffusion model, which has a tensor ",
             files.tensors().lower_bound("unknown.")->first.substr(8), ", is of no known family; known are ", titles);
    std::vector<NamedNetwork> out;
    for (const Component* component : components())
        for (const Component::NetworkRow& part : component->networks)
            if (files.has_prefix(part.prefix)) out.push_back({&part, part.make(files)});
    if (out.empty())
        fail(SDCPP_UNSUPPORTED_MODEL, "none of the known networks was found in the files given; known are ", titles,
             " as checkpoints, diffusers folders or single parts (diffusion model, VAE, text encoders, TAESD)");
    return out;
}

}  // namespace sdcpp
