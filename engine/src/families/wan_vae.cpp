// The autoencoder of Wan 2.1 and Qwen-Image: the released names and diffusers'.
#include "models/wan_vae.h"

#include "families/component.h"

namespace sdcpp {
namespace {

int recognises(const FileNames& file) {
    const bool released =
        file.has("decoder.middle.0.residual.0.gamma") || file.has("encoder.middle.0.residual.0.gamma");
    const bool diffusers =
        file.has("decoder.mid_block.resnets.0.norm1.gamma") || file.has("encoder.mid_block.resnets.0.norm1.gamma");
    return 4 * released + 4 * diffusers;
}

// diffusers' decoder has levels of `per_level` layers; its encoder's layers stand in one list, as the released ones do.
std::string from_diffusers(std::string name, int per_level) {
    static const Rules whole = {{"quant_conv.", "conv1."}, {"post_quant_conv.", "conv2."}};
    static const Rules inner = {{"conv_in.", "conv1."},
                                {"mid_block.resnets.0.", "middle.0."},
                                {"mid_block.attentions.0.", "middle.1."},
                                {"mid_block.resnets.1.", "middle.2."},
                                {"norm_out.", "head.0."},
                                {"conv_out.", "head.2."},
                                {"down_blocks.", "downsamples."}};
    static const Rules layers = {{".norm1.", ".residual.0."},
                                 {".conv1.", ".residual.2."},
                                 {".norm2.", ".residual.3."},
                                 {".conv2.", ".residual.6."},
                                 {".conv_shortcut.", ".shortcut."}};
    if (replace_start(name, whole)) return name;
    const std::string side = name.substr(0, name.find('.') + 1);  // "encoder." or "decoder."
    std::string text = name.substr(side.size());
    std::string_view rest = text;
    if (const auto level = take_number(rest, "up_blocks.", ".")) {
        constexpr std::string_view up = "upsamplers.0.";
        int number = per_level - 1;
        if (const auto resnet = take_number(rest, "resnets.", "."))
            number = *resnet;
        else if (rest.starts_with(up))
            rest.remove_prefix(up.size());
        else
            return name;
        text = "upsamples." + std::to_string(*level * per_level + number) + "." + std::string(rest);
    } else if (replace_start(text, inner) && text.starts_with("conv1.")) {
        return side + text;
    }
    for (const auto& [from, to] : layers)
        if (replace_first(text, from, to)) break;
    return side + text;
}

Renamer renamer(const FileNames& file) {
    const bool diffusers = file.has("decoder.conv_in.weight") || file.has("encoder.conv_in.weight");
    if (!diffusers) return nullptr;
    const int per_level = file.count("decoder.up_blocks.0.resnets.") + 1;
    return [per_level](const std::string& name) { return from_diffusers(name, per_level); };
}

}  // namespace

const Component wan_vae = {
    .naming = {.name = "wan_vae",
               .kind = "vae",
               .prefixes = {"first_stage_model.", "vae."},
               .slots = {"vae"},
               .config = "vae",
               .recognises = recognises,
               .renamer = renamer,
               .fused = {{".to_qkv.weight", {".to_q.weight", ".to_k.weight", ".to_v.weight"}},
                         {".to_qkv.bias", {".to_q.bias", ".to_k.bias", ".to_v.bias"}}},
               .networks = {{"wan_vae.decoder.", "wan_vae.conv2."}, {"wan_vae.encoder.", "wan_vae.conv1."}}},
    .networks = {{"wan_vae.decoder", "VAE decoder (Wan, Qwen-Image)", Role::decoder, "wan_vae.decoder.",
                  make_network<WanVaeDecoder>},
                 {"wan_vae.encoder", "VAE encoder (Wan, Qwen-Image)", Role::encoder, "wan_vae.encoder.",
                  make_network<WanVaeEncoder>}},
    .public_prefix = "first_stage_model.",
    .option = "vae",
    .flags = "--vae",
    .help = "a VAE to use in place of the model's",
};

}  // namespace sdcpp
