// Z-Image's transformer: the released checkpoint's names, which fuse q, k and v, and diffusers'.
#include "families/adapters.h"
#include "families/component.h"
#include "models/z_image.h"

namespace sdcpp {
namespace {

int recognises(const FileNames& file) {
    return file.has("cap_embedder.1.weight") + file.has("x_embedder.weight") + file.has("all_x_embedder.2-1.weight");
}

const Rules rules = {{"all_x_embedder.2-1.", "x_embedder."}, {"all_final_layer.2-1.", "final_layer."}};
const Rules inner = {{".attention.to_out.0.", ".attention.out."},
                     {".attention.norm_q.", ".attention.q_norm."},
                     {".attention.norm_k.", ".attention.k_norm."}};

std::string canonical(std::string name) {
    replace_start(name, rules);
    for (const auto& [from, to] : inner) replace_first(name, from, to);
    return name;
}

// diffusers' names of a layer.
std::vector<std::string> other_names(const std::string& layer) {
    const std::string name = layer + ".";
    std::vector<std::string> out = replaced_back(name, rules);
    for (const auto& [from, to] : inner)
        if (std::string other = name; replace_first(other, to, from)) out.push_back(std::move(other));
    for (std::string& one : out) one.pop_back();
    return out;
}

LayerAliases others(const std::set<std::string>&) { return other_names; }

}  // namespace

const Component z_image = {
    .naming = {.name = "z_image",
               .kind = "diffusion_model",
               .prefixes = {"model.diffusion_model."},
               .slots = {"transformer"},
               .config = "transformer",
               .recognises = recognises,
               .renamer = [](const FileNames&) -> Renamer { return canonical; },
               .fused = {{".attention.qkv.weight",
                          {".attention.to_q.weight", ".attention.to_k.weight", ".attention.to_v.weight"}}},
               .networks = {{"z_image."}},
               .adapters = transformer_adapters(others)},
    .networks = {{"z_image", "Z-Image transformer", Role::denoiser, "z_image.", make_network<ZImage>}},
    .public_prefix = "model.diffusion_model.",
    .option = "diffusion_model",
    .flags = "--diffusion-model",
    .help = "a UNet or transformer alone, in place of the model's or without one",
};

}  // namespace sdcpp
