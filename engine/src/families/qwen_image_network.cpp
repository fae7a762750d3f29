// Qwen-Image's transformer. The released names are diffusers'; within, it has those of FLUX.1's blocks.
#include "families/adapters.h"
#include "families/component.h"
#include "models/qwen_image.h"

namespace sdcpp {
namespace {

int recognises(const FileNames& file) {
    return 4 * (file.has("txt_norm.weight") &&
                (file.has("transformer_blocks.0.img_mod.1.weight") || file.has("double_blocks.0.img_mod.lin.weight")));
}

const Rules whole = {{"time_text_embed.timestep_embedder.linear_1.", "time_in.in_layer."},
                     {"time_text_embed.timestep_embedder.linear_2.", "time_in.out_layer."},
                     {"norm_out.linear.", "final_layer.scale_shift."},
                     {"proj_out.", "final_layer.linear."}};
const Rules inner = {{"img_mod.1.", "img_mod.lin."},
                     {"txt_mod.1.", "txt_mod.lin."},
                     {"attn.to_out.0.", "img_attn.proj."},
                     {"attn.to_add_out.", "txt_attn.proj."},
                     {"attn.to_", "img_attn.to_"},
                     {"attn.add_q_proj.", "txt_attn.to_q."},
                     {"attn.add_k_proj.", "txt_attn.to_k."},
                     {"attn.add_v_proj.", "txt_attn.to_v."},
                     {"attn.norm_q.", "img_attn.norm.query_norm."},
                     {"attn.norm_k.", "img_attn.norm.key_norm."},
                     {"attn.norm_added_q.", "txt_attn.norm.query_norm."},
                     {"attn.norm_added_k.", "txt_attn.norm.key_norm."},
                     {"img_mlp.net.0.proj.", "img_mlp.0."},
                     {"img_mlp.net.2.", "img_mlp.2."},
                     {"txt_mlp.net.0.proj.", "txt_mlp.0."},
                     {"txt_mlp.net.2.", "txt_mlp.2."}};

std::string canonical(std::string name) {
    if (replace_start(name, whole)) return name;
    std::string_view rest = name;
    if (const auto block = take_number(rest, "transformer_blocks.", ".")) {
        std::string text(rest);
        replace_start(text, inner);
        return "double_blocks." + std::to_string(*block) + "." + text;
    }
    return name;
}

std::vector<std::string> other_names(const std::string& layer) {
    const std::string name = layer + ".";
    std::vector<std::string> out = replaced_back(name, whole);
    std::string_view rest = name;
    if (const auto block = take_number(rest, "double_blocks.", "."))
        for (const std::string& text : replaced_back(std::string(rest), inner))
            out.push_back("transformer_blocks." + std::to_string(*block) + "." + text);
    for (std::string& one : out) one.pop_back();
    return out;
}

LayerAliases others(const std::set<std::string>&) { return other_names; }

}  // namespace

const Component qwen_image = {
    .naming = {.name = "qwen_image",
               .kind = "diffusion_model",
               .prefixes = {"model.diffusion_model."},
               .slots = {"transformer"},
               .config = "transformer",
               .recognises = recognises,
               .renamer = [](const FileNames&) -> Renamer { return canonical; },
               .networks = {{"qwen_image."}},
               .adapters = transformer_adapters(others)},
    .networks = {{"qwen_image", "Qwen-Image transformer", Role::denoiser, "qwen_image.", make_network<QwenImage>}},
    .public_prefix = "model.diffusion_model.",
    .option = "diffusion_model",
    .flags = "--diffusion-model",
    .help = "a UNet or transformer alone, in place of the model's or without one",
};

}  // namespace sdcpp
