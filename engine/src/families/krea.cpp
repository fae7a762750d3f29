// Krea 2's transformer: the released names, and diffusers'.
#include "models/krea.h"

#include "families/adapters.h"
#include "families/component.h"

namespace sdcpp {
namespace {

int recognises(const FileNames& file) {
    return 2 * file.has("txtfusion.projector.weight") + 2 * file.has("text_fusion.projector.weight");
}

const Rules whole = {{"img_in.", "first."},
                     {"time_embed.linear_1.", "tmlp.0."},
                     {"time_embed.linear_2.", "tmlp.2."},
                     {"time_mod_proj.", "tproj.1."},
                     {"txt_in.norm.", "txtmlp.0."},
                     {"txt_in.linear_1.", "txtmlp.1."},
                     {"txt_in.linear_2.", "txtmlp.3."},
                     {"text_fusion.", "txtfusion."},
                     {"transformer_blocks.", "blocks."},
                     {"final_layer.scale_shift_table", "last.modulation.lin"},
                     {"final_layer.", "last."}};
const Rules inner = {{".attn.to_q.", ".attn.wq."},
                     {".attn.to_k.", ".attn.wk."},
                     {".attn.to_v.", ".attn.wv."},
                     {".attn.to_out.0.", ".attn.wo."},
                     {".attn.to_gate.", ".attn.gate."},
                     {".attn.norm_q.", ".attn.qknorm.qnorm."},
                     {".attn.norm_k.", ".attn.qknorm.knorm."},
                     {".ff.", ".mlp."},
                     {".norm1.", ".prenorm."},
                     {".norm2.", ".postnorm."},
                     {".scale_shift_table", ".mod.lin"}};

std::string canonical(std::string name) {
    replace_start(name, whole);
    for (const auto& [from, to] : inner)
        if (replace_first(name, from, to)) break;
    if (name.ends_with(".scale")) name.replace(name.size() - 5, 5, "weight");
    return name;
}

// diffusers' names of a layer.
std::vector<std::string> other_names(const std::string& layer) {
    std::string name = layer + ".";
    for (const auto& [from, to] : inner)
        if (replace_first(name, to, from)) break;
    std::vector<std::string> out = replaced_back(name, whole);
    if (out.empty() && name != layer + ".") out.push_back(name);
    for (std::string& one : out) one.pop_back();
    return out;
}

LayerAliases others(const std::set<std::string>&) { return other_names; }

}  // namespace

const Component krea = {
    .naming = {.name = "krea",
               .kind = "diffusion_model",
               .prefixes = {"model.diffusion_model."},
               .slots = {"transformer"},
               .config = "transformer",
               .recognises = recognises,
               .renamer = [](const FileNames&) -> Renamer { return canonical; },
               .networks = {{"krea."}},
               .adapters = transformer_adapters(others)},
    .networks = {{"krea", "Krea 2 transformer", Role::denoiser, "krea.", make_network<Krea>}},
    .public_prefix = "model.diffusion_model.",
    .option = "diffusion_model",
    .flags = "--diffusion-model",
    .help = "a UNet or transformer alone, in place of the model's or without one",
};

}  // namespace sdcpp
