// FLUX.2's transformer: the released names, which fuse, and diffusers'.
#include <tuple>

#include "families/adapters.h"
#include "families/component.h"
#include "models/flux_2.h"

namespace sdcpp {
namespace {

int recognises(const FileNames& file) {
    return 4 * file.has("single_stream_modulation.lin.weight") + 4 * file.has("single_stream_modulation.linear.weight");
}

const Rules whole = {{"x_embedder.", "img_in."},
                     {"context_embedder.", "txt_in."},
                     {"time_guidance_embed.timestep_embedder.linear_1.", "time_in.in_layer."},
                     {"time_guidance_embed.timestep_embedder.linear_2.", "time_in.out_layer."},
                     {"time_guidance_embed.guidance_embedder.linear_1.", "guidance_in.in_layer."},
                     {"time_guidance_embed.guidance_embedder.linear_2.", "guidance_in.out_layer."},
                     {"double_stream_modulation_img.linear.", "double_stream_modulation_img.lin."},
                     {"double_stream_modulation_txt.linear.", "double_stream_modulation_txt.lin."},
                     {"single_stream_modulation.linear.", "single_stream_modulation.lin."},
                     {"norm_out.linear.", "final_layer.scale_shift."},
                     {"final_layer.adaLN_modulation.1.", "final_layer.shift_scale."},
                     {"proj_out.", "final_layer.linear."}};
const Rules blocks = {{"transformer_blocks.", "double_blocks."}, {"single_transformer_blocks.", "single_blocks."}};
const Rules twofold = {{"attn.to_out.0.", "img_attn.proj."},
                       {"attn.to_add_out.", "txt_attn.proj."},
                       {"attn.to_", "img_attn.to_"},
                       {"attn.add_q_proj.", "txt_attn.to_q."},
                       {"attn.add_k_proj.", "txt_attn.to_k."},
                       {"attn.add_v_proj.", "txt_attn.to_v."},
                       {"attn.norm_q.", "img_attn.norm.query_norm."},
                       {"attn.norm_k.", "img_attn.norm.key_norm."},
                       {"attn.norm_added_q.", "txt_attn.norm.query_norm."},
                       {"attn.norm_added_k.", "txt_attn.norm.key_norm."},
                       {"ff.linear_in.", "img_mlp.0."},
                       {"ff.linear_out.", "img_mlp.2."},
                       {"ff_context.linear_in.", "txt_mlp.0."},
                       {"ff_context.linear_out.", "txt_mlp.2."}};
const Rules single = {{"attn.to_qkv_mlp_proj.", "linear1."},
                      {"attn.to_out.", "linear2."},
                      {"attn.norm_q.", "norm.query_norm."},
                      {"attn.norm_k.", "norm.key_norm."}};

std::string canonical(std::string name) {
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

// diffusers' names of a layer.
std::vector<std::string> other_names(const std::string& layer) {
    const std::string name = layer + ".";
    std::vector<std::string> out = replaced_back(name, whole);
    std::string_view rest = name;
    for (const auto& [start, other, rules] : {std::tuple{"double_blocks.", "transformer_blocks.", &twofold},
                                              {"single_blocks.", "single_transformer_blocks.", &single}})
        if (const auto block = take_number(rest, start, ".")) {
            for (const std::string& inner : replaced_back(std::string(rest), *rules))
                out.push_back(other + std::to_string(*block) + "." + inner);
            break;
        }
    for (std::string& one : out) one.pop_back();
    return out;
}

LayerAliases others(const std::set<std::string>&) { return other_names; }

// The last modulation's halves stand in another order in diffusers' files.
std::vector<Fusion> fusions() {
    std::vector<Fusion> out;
    out.push_back({".qkv.weight", {".to_q.weight", ".to_k.weight", ".to_v.weight"}});
    out.push_back({".linear1.weight", {".to_q.weight", ".to_k.weight", ".to_v.weight", ".mlp.weight"}, {1, 1, 1, 6}});
    out.push_back({".shift_scale.weight", {".shift.weight", ".scale.weight"}});
    out.push_back({".scale_shift.weight", {".scale.weight", ".shift.weight"}});
    return out;
}

}  // namespace

const Component flux_2 = {
    .naming = {.name = "flux_2",
               .kind = "diffusion_model",
               .prefixes = {"model.diffusion_model."},
               .slots = {"transformer"},
               .config = "transformer",
               .recognises = recognises,
               .renamer = [](const FileNames&) -> Renamer { return canonical; },
               .fused = fusions(),
               .networks = {{"flux_2."}},
               .adapters = transformer_adapters(others)},
    .networks = {{"flux_2", "FLUX.2 transformer", Role::denoiser, "flux_2.", make_network<Flux2>}},
    .public_prefix = "model.diffusion_model.",
    .option = "diffusion_model",
    .flags = "--diffusion-model",
    .help = "a UNet or transformer alone, in place of the model's or without one",
};

}  // namespace sdcpp
