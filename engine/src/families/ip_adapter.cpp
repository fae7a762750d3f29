#include "families/ip_adapter.h"

#include <algorithm>

#include "base/error.h"
#include "families/component.h"
#include "families/strangers.h"

namespace sdcpp {
namespace {

int is_ip_adapter(const FileNames& file) {
    return file.has("ip_adapter.1.to_k_ip.weight") + file.has("image_proj.latents") +
           file.has("image_proj.proj.weight") + file.has("image_proj.proj.3.weight");
}

// Files count all attentions of a UNet; every second one is a cross-attention.
Renamer rename_ip_adapter(const FileNames&) {
    return [](const std::string& name) {
        std::string_view rest = name;
        const auto number = take_number(rest, "ip_adapter.", ".");
        if (!number) return name;
        return *number % 2 == 1 ? "attentions." + std::to_string(*number / 2) + "." + std::string(rest) : std::string();
    };
}

const Naming ip_adapter_naming = {
    .name = "ipadapter",
    .kind = "ipadapter",
    .prefixes = {},
    .config = "ipadapter",
    .recognises = is_ip_adapter,
    .renamer = rename_ip_adapter,
    .fused = {{".to_kv.weight", {".to_k.weight", ".to_v.weight"}}},
    .networks = {{"ipadapter."}},
};

// Adapters that see faces by another network than CLIP, or are for other models, by parts of names that tell.
struct Relative {
    std::string_view tells, title, advice;
};
constexpr std::string_view face_advice =
    " needs a network that recognises faces, which is not supported; take a base, Plus or Plus Face one";
constexpr std::string_view other_model_advice =
    " is for another model, which is not supported; those for Stable Diffusion 1, 2 and XL are";
constexpr Relative relatives[] = {
    {"to_q_lora", "an IP-Adapter FaceID", face_advice},
    {"image_proj.perceiver_resampler.", "an IP-Adapter FaceID Plus", face_advice},
    {"double_blocks.", "an IP-Adapter for FLUX.1", other_model_advice},
    {"ip_adapter.0.", "an IP-Adapter for a transformer", other_model_advice},
};

void refuse_others(const TensorFile& file, const ModelPath& path) {
    const std::string name = path.path.filename().string();
    const FileNames names(file);
    for (const auto& [tells, title, advice] : relatives)
        for (const TensorInfo& tensor : file.tensors)
            if (tensor.name.find(tells) != std::string::npos)
                fail(SDCPP_UNSUPPORTED_MODEL, name, " is ", title, ", which", advice);
    if (names.has("image_proj.proj.0.weight") && !names.has("image_proj.proj.3.weight"))
        fail(SDCPP_UNSUPPORTED_MODEL, name, " is an IP-Adapter FaceID, which", face_advice);
    if (is_ip_adapter(names)) return;
    const std::string title = strange_title(file);
    fail(SDCPP_UNSUPPORTED_MODEL, name, title.empty() ? " holds no" : " is " + title + ", no",
         " IP-Adapter: none of its tensors (image_proj.…, ip_adapter.…) is in it");
}

std::string_view model_of(int64_t context_width) {
    if (context_width == 768) return "Stable Diffusion 1";
    if (context_width == 1024) return "Stable Diffusion 2";
    if (context_width == 2048) return "Stable Diffusion XL";
    return "another model";
}

}  // namespace

IpAdapterFile open_ip_adapter(const std::filesystem::path& path) {
    static const Namings alone = {&ip_adapter_naming};
    ModelPath given{path};
    if (std::filesystem::is_directory(path)) given.path = weights_in(path);
    given.role.part = ip_adapter_naming.kind;
    return {std::make_shared<ModelFiles>(std::vector{given}, alone, refuse_others), path.filename().string()};
}

std::string_view title_of(IpAdapter::Kind kind) {
    switch (kind) {
        case IpAdapter::Kind::base:
            return "IP-Adapter";
        case IpAdapter::Kind::plus:
            return "IP-Adapter Plus";
        case IpAdapter::Kind::full:
            return "IP-Adapter Full Face";
    }
    return "";
}

void require_takes_pictures(const Denoiser* denoiser, std::string_view family) {
    if (!dynamic_cast<const UNet*>(denoiser))
        fail(SDCPP_UNSUPPORTED_MODEL, "IP-Adapters are for Stable Diffusion 1, 2 and XL; this model is ", family);
}

void require_fit(const IpAdapter& adapter, const std::string& name, const Denoiser& denoiser, const ClipVision& vision,
                 std::string_view family) {
    require_takes_pictures(&denoiser, family);
    const auto& net = dynamic_cast<const UNet&>(denoiser);
    if (adapter.context_width() != net.context_width())
        fail(SDCPP_UNSUPPORTED_MODEL, name, " is an IP-Adapter for ", model_of(adapter.context_width()),
             " by its tensors, and this model is ", family, ": its tokens have ", adapter.context_width(),
             " values, the model takes ", net.context_width(), "; take one that was made for ", family);
    std::vector<int64_t> own;
    const std::vector<size_t> numbers = numbers_in_files(net);
    own.resize(numbers.size());
    for (size_t i = 0; i < numbers.size(); ++i) own[numbers[i]] = net.attentions()[i];
    if (adapter.attentions() != own)
        fail(SDCPP_UNSUPPORTED_MODEL, name, " has keys and values for ", adapter.attentions().size(),
             " attentions; the model, ", family, ", has ", own.size(),
             adapter.attentions().size() == own.size() ? " of other widths" : "", "; take one that was made for ",
             family);
    const int64_t given = adapter.takes_patches() ? vision.width() : vision.projected_width();
    if (adapter.input_width() != given)
        fail(SDCPP_UNSUPPORTED_MODEL, name, " takes ", adapter.input_width(),
             adapter.takes_patches() ? " values for each patch" : " values", " of a CLIP vision encoder, and that of ",
             OptionName{"clip_vision", ""}, " gives ", given,
             "; take the encoder that it was made with: ViT-H for most, ViT-bigG for those whose names say so and for "
             "the first one of Stable Diffusion XL");
}

// The files' order is that of a list in which the first blocks come first, then the last, then the middle.
std::vector<size_t> numbers_in_files(const UNet& net) {
    const size_t all = net.attentions().size(), middle = net.attentions_before_middle(),
                 last = net.attentions_before_last_blocks();
    std::vector<size_t> out;
    for (size_t i = 0; i < all; ++i)
        out.push_back(i < middle ? i : i < last ? i - middle + (all - (last - middle)) : i - (last - middle));
    return out;
}

}  // namespace sdcpp
