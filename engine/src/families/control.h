// Networks that follow a picture beside a UNet: ControlNets and T2I-Adapters, their names in files, and whether they
// fit to a model.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "models/control_net.h"
#include "models/unet.h"
#include "weights/weight.h"

namespace sdcpp {

enum class ControlKind { control_net, control_lora, t2i_adapter };

struct ControlFile {
    ControlKind kind{};
    std::shared_ptr<const ModelFiles> files;
    std::string name;    // the file's, for messages
    bool pools = false;  // see declare_control_net
};

// Opens a file or a folder of one. Those that hold differences only take the rest from the UNet in `base`, which must
// outlive them. Throws SDCPP_UNSUPPORTED_MODEL for what is neither, with what it is.
ControlFile open_control(const std::filesystem::path& path, const ModelFiles& base);

// The title of its kind, such as "ControlNet".
std::string_view title_of(const ControlFile& file, int64_t types);

// Throws SDCPP_UNSUPPORTED_MODEL unless there are such networks for a model's denoiser, and, with whose it looks like,
// unless the file was made for this one. `family`: the model's title.
void require_controllable(const Denoiser* denoiser, std::string_view family);
void require_fit(const ControlFile& file, const Denoiser& denoiser, std::string_view family);

// Declares what runs in every step before the denoiser of `base`; see declare_control_net().
void declare_control(Declaration& declaration, const ControlFile& file, const ModelFiles& base,
                     const std::string& in_front);

// The sources of `weights`, from number `first` on, for a file that holds differences: the UNet's values changed.
void change_sources(const ControlFile& file, WeightList& weights, size_t first);

}  // namespace sdcpp
