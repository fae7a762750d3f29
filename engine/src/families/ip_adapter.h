// IP-Adapters: their names in files, and whether they fit to a model.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "models/clip_vision.h"
#include "models/ip_adapter.h"
#include "models/unet.h"

namespace sdcpp {

struct IpAdapterFile {
    std::shared_ptr<const ModelFiles> files;
    std::string name;  // the file's, for messages
};

// Opens a file or a folder of one. Throws SDCPP_UNSUPPORTED_MODEL for what is none, with what it is.
IpAdapterFile open_ip_adapter(const std::filesystem::path& path);

// The title of its kind, such as "IP-Adapter Plus".
std::string_view title_of(IpAdapter::Kind kind);

// Throws SDCPP_UNSUPPORTED_MODEL unless there are IP-Adapters for a model's denoiser. `family`: the model's title.
void require_takes_pictures(const Denoiser* denoiser, std::string_view family);
// Throws SDCPP_UNSUPPORTED_MODEL unless the adapter was made for this UNet and this vision encoder.
void require_fit(const IpAdapter& adapter, const std::string& name, const Denoiser& denoiser, const ClipVision& vision,
                 std::string_view family);

// For each cross-attention of the UNet, in the order in which they run, its number in the files.
std::vector<size_t> numbers_in_files(const UNet& net);

}  // namespace sdcpp
