// FLUX.1's transformer: the released checkpoint's names, which fuse, and diffusers'.
#include <tuple>

#include "families/adapters.h"
#include "families/component.h"
#include "models/flux.h"

namespace sdcpp {
namespace {

int recognises(const FileNames& file) {
    const bool released =
        file.has("vector_in.in_layer.weight") && (file.has("double_blocks.0.img_attn.norm.key_norm.scale") ||
                                                  file.has("double_blocks.0.img_attn.norm.key_norm.weight"));
    const bool diffusers = file.has("single_transformer_blocks.0.proj_mlp.weight") &&
                           file.has("time_text_embed.text_embedder.linear_1.weight");
    return 2 * released + 2 * diffusers + 4 * file.has("distilled_guidance_layer.in_proj.weight");
}

const Rules whole = {{"x_embedder.", "img_in."},
                     {"context_embedder.", "txt_in."},
                     {"time_text_embed.timestep_embedder.linear_1.", "time_in.in_layer."},
                     {"time_text_embed.timestep_embedder.linear_2.", "time_in.out_layer."},
                     {"time_text_embed.guidance_embedder.linear_1.", "guidance_in.in_layer."},
                     {"time_text_embed.guidance_embedder.linear_2.", "guidance_in.out_layer."},
                     {"time_text_embed.text_embedder.linear_1.", "vector_in.in_layer."},
                     {"time_text_embed.text_embedder.linear_2.", "vector_in.out_layer."},
                     {"norm_out.linear.", "final_layer.scale_shift."},
                     {"final_layer.adaLN_modulation.1.", "final_layer.shift_scale."},
                     {"proj_out.", "final_layer.linear."}};
const Rules blocks = {{"transformer_blocks.", "double_blocks."}, {"single_transformer_blocks.", "single_blocks."}};
const Rules twofold = {{"norm1.linear.", "img_mod.lin."},
                       {"norm1_context.linear.", "txt_mod.lin."},
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
                       {"ff.net.0.proj.", "img_mlp.0."},
                       {"ff.net.2.", "img_mlp.2."},
                       {"ff_context.net.0.proj.", "txt_mlp.0."},
                       {"ff_context.net.2.", "txt_mlp.2."}};
const Rules single = {{"norm.linear.", "modulation.lin."}, {"attn.to_", "to_"},   {"attn.norm_q.", "norm.query_norm."},
                      {"attn.norm_k.", "norm.key_norm."},  {"proj_mlp.", "mlp."}, {"proj_out.", "linear2."}};
// What XLabs' files call the few layers that they have.
const Rules processors = {{"img_attn.qkv.", "qkv_lora1."},
                          {"img_attn.proj.", "proj_lora1."},
                          {"txt_attn.qkv.", "qkv_lora2."},
                          {"txt_attn.proj.", "proj_lora2."},
                          {"linear2.", "proj."}};

// Chroma's small network for modulations.
const Rules guidance = {{".linear_1.", ".in_layer."}, {".linear_2.", ".out_layer."}};

std::string canonical(std::string name) {
    if (name.starts_with("distilled_guidance_layer.")) {
        for (const auto& [from, to] : guidance) replace_first(name, from, to);
        if (name.ends_with(".scale")) name.replace(name.size() - 5, 5, "weight");
        return name;
    }
    if (replace_start(name, whole)) return name;
    replace_start(name, blocks);
    std::string_view rest = name;
    for (const auto& [start, rules] : {std::pair{"double_blocks.", &twofold}, {"single_blocks.", &single}})
        if (const auto block = take_number(rest, start, ".")) {
            std::string inner(rest);
            replace_start(inner, *rules);
            if (inner.ends_with("_norm.scale")) inner.replace(inner.size() - 5, 5, "weight");
            return start + std::to_string(*block) + "." + inner;
        }
    return name;
}

// diffusers' names of a layer, and those of XLabs' files.
std::vector<std::string> other_names(const std::string& layer) {
    const std::string name = layer + ".";
    std::vector<std::string> out = replaced_back(name, whole);
    std::string_view rest = name;
    for (const auto& [start, other, rules] : {std::tuple{"double_blocks.", "transformer_blocks.", &twofold},
                                              {"single_blocks.", "single_transformer_blocks.", &single}})
        if (const auto block = take_number(rest, start, ".")) {
            const std::string number = std::to_string(*block) + ".";
            for (const std::string& inner : replaced_back(std::string(rest), *rules))
                out.push_back(other + number + inner);
            std::string inner(rest);
            if (replace_start(inner, processors)) out.push_back(start + number + inner);
            break;
        }
    for (std::string& one : out) one.pop_back();
    return out;
}

LayerAliases others(const std::set<std::string>&) { return other_names; }

// The last modulation's halves stand in another order in diffusers' files.
std::vector<Fusion> fusions() {
    static const std::string_view attention[] = {".qkv.weight", ".qkv.bias"};
    std::vector<Fusion> out;
    out.push_back({attention[0], {".to_q.weight", ".to_k.weight", ".to_v.weight"}});
    out.push_back({attention[1], {".to_q.bias", ".to_k.bias", ".to_v.bias"}});
    out.push_back({".linear1.weight", {".to_q.weight", ".to_k.weight", ".to_v.weight", ".mlp.weight"}, {1, 1, 1, 4}});
    out.push_back({".linear1.bias", {".to_q.bias", ".to_k.bias", ".to_v.bias", ".mlp.bias"}, {1, 1, 1, 4}});
    out.push_back({".shift_scale.weight", {".shift.weight", ".scale.weight"}});
    out.push_back({".shift_scale.bias", {".shift.bias", ".scale.bias"}});
    out.push_back({".scale_shift.weight", {".scale.weight", ".shift.weight"}});
    out.push_back({".scale_shift.bias", {".scale.bias", ".shift.bias"}});
    return out;
}

}  // namespace

const Component flux = {
    .naming = {.name = "flux",
               .kind = "diffusion_model",
               .prefixes = {"model.diffusion_model."},
               .slots = {"transformer"},
               .config = "transformer",
               .recognises = recognises,
               .renamer = [](const FileNames&) -> Renamer { return canonical; },
               .fused = fusions(),
               .networks = {{"flux."}},
               .adapters = transformer_adapters(others)},
    .networks = {{"flux", "FLUX.1 transformer", Role::denoiser, "flux.", make_network<Flux>}},
    .public_prefix = "model.diffusion_model.",
    .option = "diffusion_model",
    .flags = "--diffusion-model",
    .help = "a UNet or transformer alone, in place of the model's or without one",
};

}  // namespace sdcpp
