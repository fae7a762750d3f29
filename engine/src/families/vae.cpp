// AutoencoderKL: original checkpoints' names and diffusers'.
#include "models/vae.h"

#include <algorithm>

#include "families/component.h"

namespace sdcpp {
namespace {

int recognises(const FileNames& file) {
    return file.has("decoder.conv_in.weight") + file.has("encoder.conv_in.weight");
}

// The original names; diffusers' decoder counts levels from the other end.
std::string from_diffusers(std::string name, int levels) {
    const std::string side = name.substr(0, name.find('.') + 1);  // "encoder." or "decoder."
    std::string_view rest = std::string_view(name).substr(side.size());
    std::string out = name;
    const auto level_name = [&](int level, std::string_view inner) {
        std::string text(inner);
        const bool down = side == "encoder.";
        if (const auto n = take_number(inner, "resnets.", ".")) {
            text = "block." + std::to_string(*n) + "." + std::string(inner);
        } else {
            replace_first(text, down ? "downsamplers.0." : "upsamplers.0.", down ? "downsample." : "upsample.");
        }
        return side + (down ? "down." : "up.") + std::to_string(down ? level : levels - 1 - level) + "." + text;
    };
    if (const auto down = take_number(rest, "down_blocks.", ".")) out = level_name(*down, rest);
    if (const auto up = take_number(rest, "up_blocks.", ".")) out = level_name(*up, rest);
    static const Rules rules = {{"mid_block.resnets.0.", "mid.block_1."},
                                {"mid_block.resnets.1.", "mid.block_2."},
                                {"mid_block.attentions.0.", "mid.attn_1."},
                                {"conv_norm_out.", "norm_out."},
                                {"conv_shortcut.", "nin_shortcut."}};
    for (const auto& [from, to] : rules) replace_first(out, from, to);
    if (out.find("mid.attn_1.") != std::string::npos) {
        static const Rules attention = {{"group_norm.", "norm."},   {"to_q.", "q."},  {"to_k.", "k."}, {"to_v.", "v."},
                                        {"to_out.0.", "proj_out."}, {"query.", "q."}, {"key.", "k."},  {"value.", "v."},
                                        {"proj_attn.", "proj_out."}};
        for (const auto& [from, to] : attention)
            if (replace_first(out, from, to)) break;
    }
    return out;
}

Renamer renamer(const FileNames& file) {
    // FLUX.2's file keeps the convolutions within the halves.
    if (file.has("decoder.post_quant_conv.weight") || file.has("encoder.quant_conv.weight"))
        return [](std::string name) {
            replace_start(name,
                          {{"decoder.post_quant_conv.", "post_quant_conv."}, {"encoder.quant_conv.", "quant_conv."}});
            return name;
        };
    const int levels = std::max(file.count("decoder.up_blocks."), file.count("encoder.down_blocks."));
    if (levels == 0) return nullptr;
    return [levels](const std::string& name) { return from_diffusers(name, levels); };
}

}  // namespace

const Component vae = {
    .naming = {.name = "vae",
               .kind = "vae",
               .prefixes = {"first_stage_model.", "vae."},
               .slots = {"vae"},
               .config = "vae",
               .recognises = recognises,
               .renamer = renamer,
               .networks = {{"vae.decoder.", "vae.post_quant_conv.", "vae.bn."}, {"vae.encoder.", "vae.quant_conv."}}},
    .networks = {{"vae.decoder", "VAE decoder", Role::decoder, "vae.decoder.", make_network<VaeDecoder>},
                 {"vae.encoder", "VAE encoder", Role::encoder, "vae.encoder.", make_network<VaeEncoder>}},
    .public_prefix = "first_stage_model.",
    .option = "vae",
    .flags = "--vae",
    .help = "a VAE to use in place of the model's",
};

}  // namespace sdcpp
