#include "families/summary.h"

#include <algorithm>

namespace sdcpp {
namespace {

bool holds(const ModelFiles& files, const Component::NetworkRow& part) { return files.has_prefix(part.prefix); }

}  // namespace

std::vector<const Component*> missing_components(const ModelFiles& files, const Family& family, bool tiny) {
    std::vector<const Component*> needed = {find_component(family.denoiser)};
    for (const std::string_view name : family.text.encoders()) needed.push_back(find_component(name));
    if (const Component* coder = find_component(tiny ? family.latent.tiny_autoencoder : family.autoencoder))
        needed.push_back(coder);
    std::erase_if(needed, [&](const Component* component) { return holds(files, network_of(*component)); });
    return needed;
}

const Component* sole_component(const ModelFiles& files) {
    const Component* found = nullptr;
    for (const Component* component : components())
        for (const Component::NetworkRow& part : component->networks) {
            if (!holds(files, part) || found == component) continue;
            if (found || part.role == Role::denoiser) return nullptr;
            found = component;
        }
    return found;
}

FilesSummary summarize(const ModelFiles& files) {
    FilesSummary out;
    for (const Component* component : components())
        for (const Component::NetworkRow& part : component->networks) {
            if (!holds(files, part)) continue;
            int64_t parameters = 0;
            for (auto at = files.tensors().lower_bound(part.prefix);
                 at != files.tensors().end() && at->first.starts_with(part.prefix); ++at)
                parameters += at->second.count();
            out.networks.push_back({&part, parameters});
        }
    const Family& family = family_of(files);
    if (family.recognises(files) > 0) out.family = &family;
    out.missing = missing_components(files, family);
    return out;
}

}  // namespace sdcpp
