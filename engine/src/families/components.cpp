#include <algorithm>
#include <unordered_set>

#include "base/error.h"
#include "base/log.h"
#include "base/names.h"
#include "base/stop.h"
#include "families/component.h"
#include "families/family.h"
#include "families/strangers.h"
#include "families/summary.h"

namespace sdcpp {
namespace {

// If files hold no diffusion model, what they are is more to the point than what ails it.
std::unique_ptr<Network> make(const ModelFiles& files, const Component::NetworkRow& part) {
    try {
        return part.make(files);
    } catch (const Error& error) {
        const Component* alone = sole_component(files);
        if (!alone) throw;
        fail(error.status(), "the file holds only a ", network_of(*alone).title, ", no whole model; give it with ",
             OptionName{alone->option, "…"}, " beside one; besides, ", error.what());
    }
}

}  // namespace

std::string_view name_of(Role role) {
    switch (role) {
        case Role::text_encoder:
            return "text_encoder";
        case Role::denoiser:
            return "denoiser";
        case Role::decoder:
            return "decoder";
        case Role::encoder:
            return "encoder";
        case Role::tiny_decoder:
            return "tiny_decoder";
        case Role::tiny_encoder:
            return "tiny_encoder";
        case Role::upscaler:
            return "upscaler";
        case Role::vision_encoder:
            return "vision_encoder";
    }
    return "";
}

const std::vector<const Component*>& components() {
    static const std::vector<const Component*> all = {&clip_l, &clip_g,  &clip_h,  &clip_vision, &t5,     &llm,
                                                      &unet,   &z_image, &flux,    &flux_2,      &krea,   &qwen_image,
                                                      &sd3,    &vae,     &wan_vae, &taesd,       &esrgan, &srvgg};
    return all;
}

const Component* find_component(std::string_view name) {
    for (const Component* component : components())
        if (component->naming.name == name) return component;
    return nullptr;
}

const Component::NetworkRow& network_of(const Component& component) { return component.networks.front(); }

const Component& component_of(const Component::NetworkRow& network) {
    for (const Component* component : components())
        for (const Component::NetworkRow& row : component->networks)
            if (&row == &network) return *component;
    fail(SDCPP_INTERNAL, "the network ", network.name, " is no component's");
}

const Namings& namings() {
    static const Namings all = [] {
        Namings out;
        for (const Component* component : components()) out.push_back(&component->naming);
        return out;
    }();
    return all;
}

ModelFiles open_files(const std::vector<ModelPath>& paths) { return {paths, namings(), refuse_strangers}; }

std::vector<NamedNetwork> make_networks(const ModelFiles& files) {
    std::string titles;
    for (const Family* family : families()) titles += (titles.empty() ? "" : ", ") + std::string(family->title);
    if (files.has_prefix("unknown."))
        fail(SDCPP_UNSUPPORTED_MODEL, "the diffusion model, which has a tensor ",
             files.tensors().lower_bound("unknown.")->first.substr(8), ", is of no known family; known are ", titles);
    std::vector<NamedNetwork> out;
    for (const Component* component : components())
        for (const Component::NetworkRow& part : component->networks)
            if (files.has_prefix(part.prefix)) out.push_back({&part, make(files, part)});
    if (out.empty())
        fail(SDCPP_UNSUPPORTED_MODEL, "none of the known networks was found in the files given; known are ", titles,
             " as checkpoints, diffusers folders or single parts (diffusion model, VAE, text encoders, TAESD)");
    return out;
}

std::vector<std::string> unused_tensors(const ModelFiles& files, const std::vector<NamedNetwork>& networks) {
    std::unordered_set<std::string_view> used;
    for (const NamedNetwork& named : networks)
        for (const Weight& weight : named.network->weights().all()) used.insert(weight.name);
    std::vector<std::string> out;
    std::unordered_set<std::string_view> seen;  // a tensor that holds several has several canonical names
    for (const auto& [name, tensor] : files.tensors()) {
        stop_point();
        if (!used.contains(name) && !is_leftover(name) && !is_leftover(tensor.name) && seen.insert(tensor.name).second)
            out.push_back(tensor.name);
    }
    for (const std::string& name : files.nameless())
        if (!is_leftover(name)) out.push_back(name);
    return out;
}

void warn_of_unused(const ModelFiles& files, const std::vector<NamedNetwork>& networks) {
    const std::vector<std::string> names = unused_tensors(files, networks);
    if (names.empty()) return;
    log(SDCPP_LOG_WARNING, std::to_string(names.size()) + (names.size() == 1 ? " tensor has" : " tensors have") +
                               " no use: " + first_few(names));
}

}  // namespace sdcpp
