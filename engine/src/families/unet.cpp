// The UNet of Stable Diffusion: original checkpoints' names and diffusers'.
#include "models/unet.h"

#include <set>

#include "families/component.h"
#include "families/unet_names.h"

namespace sdcpp {
namespace {

int recognises(const FileNames& file) {
    return file.has("input_blocks.0.0.weight") + file.has("time_embed.0.weight") +
           file.has("conv_in.weight") * file.has("time_embedding.linear_1.weight") * 2;
}

Renamer renamer(const FileNames& file) {
    if (!file.has("conv_in.weight")) return nullptr;
    const int layers = std::max(1, file.count("down_blocks.0.resnets."));
    std::set<int> attending;
    file.each([&](std::string_view name, const TensorInfo&) {
        const auto level = take_number(name, "up_blocks.", ".");
        if (level && name.starts_with("attentions.")) attending.insert(*level);
    });
    return [=](const std::string& name) { return unet_name(name, layers, attending); };
}

// The way back: diffusers' name of a layer.
std::string to_diffusers(const std::string& layer, int layers) {
    static const Rules whole = {{"input_blocks.0.0", "conv_in"},
                                {"time_embed.0", "time_embedding.linear_1"},
                                {"time_embed.2", "time_embedding.linear_2"},
                                {"label_emb.0.0", "add_embedding.linear_1"},
                                {"label_emb.0.2", "add_embedding.linear_2"},
                                {"out.0", "conv_norm_out"},
                                {"out.2", "conv_out"}};
    static const Rules inner = {{"in_layers.0", "norm1"},          {"in_layers.2", "conv1"},
                                {"emb_layers.1", "time_emb_proj"}, {"out_layers.0", "norm2"},
                                {"out_layers.3", "conv2"},         {"skip_connection", "conv_shortcut"}};
    for (const auto& [from, to] : whole)
        if (layer == from) return std::string(to);
    std::string_view name = layer;
    const auto placed = [](const char* blocks, int level, const char* kind, int number, std::string_view rest) {
        std::string own(rest);
        if (std::string_view(kind) == "resnets") replace_start(own, inner);
        return std::string(blocks) + "." + std::to_string(level) + "." + kind + "." + std::to_string(number) + "." +
               own;
    };
    if (const auto n = take_number(name, "middle_block.", ".")) {
        if (*n == 1) return "mid_block.attentions.0." + std::string(name);
        std::string own(name);
        replace_start(own, inner);
        return "mid_block.resnets." + std::to_string(*n / 2) + "." + own;
    }
    if (const auto block = take_number(name, "input_blocks.", ".")) {
        const int level = (*block - 1) / (layers + 1), number = (*block - 1) % (layers + 1);
        const auto place = take_number(name, "", ".");
        if (!place) return "";
        if (name == "op") return "down_blocks." + std::to_string(level) + ".downsamplers.0.conv";
        return placed("down_blocks", level, *place == 0 ? "resnets" : "attentions", number, name);
    }
    if (const auto block = take_number(name, "output_blocks.", ".")) {
        const int level = *block / (layers + 1), number = *block % (layers + 1);
        const auto place = take_number(name, "", ".");
        if (!place) return "";
        if (name == "conv") return "up_blocks." + std::to_string(level) + ".upsamplers.0.conv";
        return placed("up_blocks", level, *place == 0 ? "resnets" : "attentions", number, name);
    }
    return "";
}

// The number of layers a level is where the first level ends. Older files of diffusers leave out that the outputs of
// attention are a list.
LayerAliases others(const std::set<std::string>& layers) {
    int each = 2;
    for (int block = 1; block < 100; ++block)
        if (layers.contains("input_blocks." + std::to_string(block) + ".0.op")) {
            each = block - 1;
            break;
        }
    return [each](const std::string& layer) {
        std::vector<std::string> out;
        if (std::string name = to_diffusers(layer, each); !name.empty()) {
            if (name.ends_with(".to_out.0")) out.push_back(name.substr(0, name.size() - 2));
            out.push_back(std::move(name));
        }
        return out;
    };
}

}  // namespace

const Component unet = {
    .naming = {.name = "unet",
               .kind = "diffusion_model",
               .prefixes = {"model.diffusion_model."},
               .slots = {"unet"},
               .config = "unet",
               .recognises = recognises,
               .renamer = renamer,
               .networks = {{"unet."}},
               .adapters = {.dotted = {"unet.", "diffusion_model.", "model.diffusion_model.", "base_model.model.",
                                       "base_model.model.unet.", "pipe.unet."},
                            .joined = {"lora_unet_", "lycoris_", "lycoris_unet_"},
                            .others = others}},
    .networks = {{"unet", "UNet", Role::denoiser, "unet.", make_network<UNet>}},
    .public_prefix = "model.diffusion_model.",
    .option = "diffusion_model",
    .flags = "--diffusion-model",
    .help = "a UNet or transformer alone, in place of the model's or without one",
};

}  // namespace sdcpp
