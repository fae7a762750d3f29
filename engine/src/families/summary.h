// Contents of files, and missing components, for people.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "families/family.h"

namespace sdcpp {

struct FilesSummary {
    const Family* family = nullptr;  // null if the files hold no diffusion model
    struct Network {
        const Component::NetworkRow* part;
        int64_t parameters;
    };
    std::vector<Network> networks;  // the files' networks, in the order in which they run
    // The components that text to image needs in addition: the family's, or the default one's.
    std::vector<const Component*> missing;
};
FilesSummary summarize(const ModelFiles& files);

// The component that is all that the files hold, if it is no diffusion model; else null.
const Component* sole_component(const ModelFiles& files);

// Components that text to image needs and the files lack. `tiny`: it is decoded with the tiny autoencoder.
std::vector<const Component*> missing_components(const ModelFiles& files, const Family& family, bool tiny = false);

}  // namespace sdcpp
