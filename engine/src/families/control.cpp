#include "families/control.h"

#include <algorithm>
#include <cctype>

#include "base/error.h"
#include "families/component.h"
#include "families/strangers.h"
#include "families/unet_names.h"
#include "models/t2i_adapter.h"
#include "weights/adapters/adapted_source.h"

namespace sdcpp {
namespace {

int is_control_net(const FileNames& file) {
    return file.has("input_hint_block.0.weight") + file.has("zero_convs.0.0.weight") +
           file.has("controlnet_cond_embedding.conv_in.weight") + file.has("controlnet_down_blocks.0.weight");
}

// diffusers' names of the layers that a UNet does not have.
std::string hint_name(const std::string& full, int hint_blocks) {
    static const Rules rules = {{"controlnet_cond_embedding.conv_in.", "input_hint_block.0."},
                                {"controlnet_mid_block.", "middle_block_out.0."}};
    std::string whole = full;
    if (replace_start(whole, rules)) return whole;
    std::string_view rest = full;
    if (const auto n = take_number(rest, "controlnet_cond_embedding.blocks.", "."))
        return "input_hint_block." + std::to_string(2 * (*n + 1)) + "." + std::string(rest);
    if (const auto n = take_number(rest, "controlnet_down_blocks.", "."))
        return "zero_convs." + std::to_string(*n) + ".0." + std::string(rest);
    constexpr std::string_view last = "controlnet_cond_embedding.conv_out.";
    if (full.starts_with(last))
        return "input_hint_block." + std::to_string(2 * (hint_blocks + 1)) + "." + full.substr(last.size());
    return "";
}

Renamer rename_control_net(const FileNames& file) {
    if (!file.has("controlnet_cond_embedding.conv_in.weight")) return nullptr;
    const int layers = std::max(1, file.count("down_blocks.0.resnets."));
    const int hint_blocks = file.count("controlnet_cond_embedding.blocks.");
    return [=](const std::string& name) {
        const std::string own = hint_name(name, hint_blocks);
        return own.empty() ? unet_name(name, layers, {}) : own;
    };
}

const Naming control_naming = {
    .name = "controlnet",
    .kind = "control",
    .prefixes = {"control_model."},
    .config = "controlnet",
    .recognises = is_control_net,
    .renamer = rename_control_net,
    .fused = {{"attn.in_proj_weight", {"attn.q.weight", "attn.k.weight", "attn.v.weight"}},
              {"attn.in_proj_bias", {"attn.q.bias", "attn.k.bias", "attn.v.bias"}}},
    .networks = {{"controlnet."}},
};

int is_t2i_adapter(const FileNames& file) {
    return file.has("body.0.block1.weight") + file.has("body.0.resnets.0.block1.weight") +
           file.has("body.0.body.0.block1.weight");
}

// The authors' files count blocks, diffusers' levels; a level's first block is the one that changes the width or, if
// none does, every second one.
Renamer rename_t2i_adapter(const FileNames& file) {
    if (file.has("body.0.resnets.0.block1.weight")) return nullptr;
    if (file.has("body.0.body.0.block1.weight"))
        return [](const std::string& name) {
            std::string out = name;
            std::string_view rest = name;
            if (take_number(rest, "body.", ".") && rest.starts_with("body.")) {
                const size_t at = name.size() - rest.size();
                out.replace(at, 5, "resnets.");
            }
            return out;
        };
    return [](const std::string& name) {
        std::string_view rest = name;
        const auto n = take_number(rest, "body.", ".");
        if (!n) return name;
        const std::string level = "body." + std::to_string(*n / 2) + ".";
        if (rest.starts_with("in_conv.")) return level + std::string(rest);
        return level + "resnets." + std::to_string(*n % 2) + "." + std::string(rest);
    };
}

const Naming t2i_naming = {
    .name = "t2i",
    .kind = "control",
    .prefixes = {"adapter.", "t2iadapter."},
    .config = "t2i",
    .recognises = is_t2i_adapter,
    .renamer = rename_t2i_adapter,
    .networks = {{"t2i."}},
};

// Throws for files of which the strangers' table knows a title, unless that is what is wanted here.
void refuse_others(const TensorFile& file, const ModelPath& path) {
    const std::string name = path.path.filename().string();
    for (const TensorInfo& tensor : file.tensors)
        if (tensor.name == "controlnet_x_embedder.weight" || tensor.name.starts_with("control_all_x_embedder.") ||
            tensor.name == "pos_embed_input.proj.weight")
            fail(SDCPP_UNSUPPORTED_MODEL, name,
                 " is a ControlNet for a transformer, such as FLUX.1's, which is not supported yet; those for Stable "
                 "Diffusion 1, 2 and XL are");
    const FileNames names(file);
    const FileNames under = names.under("control_model."), adapter = names.under("adapter.");
    if (is_control_net(names) || is_control_net(under) || is_t2i_adapter(names) || is_t2i_adapter(adapter)) return;
    const std::string title = strange_title(file);
    fail(SDCPP_UNSUPPORTED_MODEL, name, title.empty() ? " holds no" : " is " + title + ", no",
         " ControlNet or T2I-Adapter: none of their tensors is in it");
}

std::string context_title(int64_t width, bool xl) {
    if (xl) return "Stable Diffusion XL";
    if (width == 768) return "Stable Diffusion 1";
    if (width == 1024) return "Stable Diffusion 2";
    return "another model";
}

std::string list_text(const std::vector<int64_t>& values) {
    std::string out;
    for (const int64_t value : values) out += (out.empty() ? "" : ", ") + std::to_string(value);
    return out;
}

void require_net_fits(const ControlFile& file, const UNet& net, std::string_view family) {
    const ControlNetShape shape(*file.files);
    const int64_t own = net.width_of("pooled") > 0 ? 1 : 0, theirs = shape.added > 0 ? 1 : 0;
    std::vector<int64_t> residuals = net.skips();
    residuals.push_back(net.middle());
    std::string why;
    if (shape.context_width != net.context_width() || own != theirs)
        why = "it takes texts of width " + std::to_string(shape.context_width) + (theirs ? " and sizes" : "") +
              ", the model has " + std::to_string(net.context_width()) + (own ? " and sizes" : "");
    else if (shape.residuals != residuals)
        why = "its blocks have the widths " + list_text(shape.residuals) + ", the model's " + list_text(residuals);
    else if (shape.in_channels != net.in_channels())
        why = "it takes latents of " + std::to_string(shape.in_channels) + " channels, the model " +
              std::to_string(net.in_channels());
    if (why.empty()) return;
    fail(SDCPP_UNSUPPORTED_MODEL, file.name, " is a ControlNet for ", context_title(shape.context_width, theirs == 1),
         " by its tensors, and this model is ", family, ": ", why, "; take one that was made for ", family);
}

void require_adapter_fits(const ControlFile& file, const UNet& net, std::string_view family) {
    const T2IAdapter adapter(*file.files);
    std::vector<UNet::Feature> places = net.features();
    places.push_back({net.middle(), net.multiple()});
    const auto& features = adapter.features();
    bool fits = features.size() <= places.size();
    const int64_t pixels = features.front().divisor / places.front().divisor;  // for a side of the latent
    for (size_t i = 0; fits && i < features.size(); ++i)
        fits = features[i].channels == places[i].channels && features[i].divisor == pixels * places[i].divisor;
    if (fits) return;
    std::vector<int64_t> own, theirs;
    for (const auto& feature : features) theirs.push_back(feature.channels);
    for (const auto& place : places) own.push_back(place.channels);
    fail(SDCPP_UNSUPPORTED_MODEL, file.name, " is a T2I-Adapter for ",
         adapter.factor() == 16 ? "Stable Diffusion XL" : "Stable Diffusion 1 or 2",
         " by its tensors, and this model is ", family, ": its features have the widths ", list_text(theirs),
         ", the model's levels ", list_text(own), "; take one that was made for ", family);
}

}  // namespace

ControlFile open_control(const std::filesystem::path& path, const ModelFiles& base) {
    static const Namings both = {&control_naming, &t2i_naming};
    ControlFile out;
    out.name = path.filename().string();
    ModelPath given{path};
    if (std::filesystem::is_directory(path)) given.path = weights_in(path);
    given.role.part = "control";
    auto files = std::make_shared<ModelFiles>(std::vector{given}, both, refuse_others);
    const TensorFile raw = open_tensor_file(given.path);
    const auto marked = [&](std::string_view mark) {
        return std::any_of(raw.tensors.begin(), raw.tensors.end(),
                           [&](const TensorInfo& tensor) { return tensor.name == mark; });
    };
    if (files->has_prefix("t2i.")) {
        out.kind = ControlKind::t2i_adapter;
    } else if (const bool differences = marked("difference"); differences || marked("lora_controlnet")) {
        out.kind = ControlKind::control_lora;
        files->borrow(base, "unet.", "controlnet.", differences);
    }
    std::string lower = out.name;
    std::transform(lower.begin(), lower.end(), lower.begin(), [](unsigned char c) { return std::tolower(c); });
    // the network itself does not show it
    out.pools =
        files->config()["controlnet"].boolean_or("global_pool_conditions", lower.find("shuffle") != std::string::npos);
    out.files = std::move(files);
    return out;
}

std::string_view title_of(const ControlFile& file, int64_t types) {
    if (file.kind == ControlKind::t2i_adapter) return "T2I-Adapter";
    if (file.kind == ControlKind::control_lora) return "control-LoRA";
    return types > 0 ? "ControlNet union" : "ControlNet";
}

void require_controllable(const Denoiser* denoiser, std::string_view family) {
    if (!dynamic_cast<const UNet*>(denoiser))
        fail(SDCPP_UNSUPPORTED_MODEL,
             "ControlNets and T2I-Adapters are for Stable Diffusion 1, 2 and XL; this model is ", family);
}

void require_fit(const ControlFile& file, const Denoiser& denoiser, std::string_view family) {
    require_controllable(&denoiser, family);
    const auto& net = dynamic_cast<const UNet&>(denoiser);
    if (file.kind == ControlKind::t2i_adapter)
        require_adapter_fits(file, net, family);
    else
        require_net_fits(file, net, family);
}

void declare_control(Declaration& declaration, const ControlFile& file, const ModelFiles& base,
                     const std::string& in_front) {
    declare_control_net(declaration, *file.files, base.config()["unet"], in_front, file.pools);
}

void change_sources(const ControlFile& file, WeightList& weights, size_t first) {
    if (file.kind != ControlKind::control_lora) return;
    const ModelFiles& files = *file.files;
    const auto factor = [&](const std::string& name) -> Factor {
        const TensorInfo* tensor = files.find(name);
        if (!tensor) return {};
        for (const auto& one : files.files())
            if (one.get() == &files.file_of(tensor->bytes)) return {*tensor, one};
        return {};
    };
    for (size_t i = first; i < weights.all().size(); ++i) {
        Weight& weight = weights.all()[i];
        AdapterLayer layer;
        layer.file = file.name;
        layer.name = weight.name;
        constexpr std::string_view ending = ".weight";
        if (weight.name.ends_with(ending)) {
            const std::string stem = weight.name.substr(0, weight.name.size() - ending.size());
            if (Factor up = factor(stem + ".up"), down = factor(stem + ".down"); up && down) {
                layer.tensors.emplace("lora_up.weight", std::move(up));
                layer.tensors.emplace("lora_down.weight", std::move(down));
            }
        }
        if (Factor difference = factor("difference." + weight.name); difference)
            layer.tensors.emplace("diff", std::move(difference));
        if (layer.tensors.empty()) continue;
        const LayerShape shape{weight.shape};
        weight.source = std::make_shared<AdaptedSource>(std::move(weight.source), weight_change(layer, shape), 1.0f,
                                                        shape.columns(), 0, 0);
    }
}

}  // namespace sdcpp
