// Stable Diffusion 3's transformer: the released names, which fuse, and diffusers'.
#include <algorithm>
#include <tuple>

#include "families/adapters.h"
#include "families/component.h"
#include "models/sd3.h"

namespace sdcpp {
namespace {

int recognises(const FileNames& file) {
    const bool released = file.has("joint_blocks.0.context_block.adaLN_modulation.1.weight");
    const bool diffusers = file.has("pos_embed.proj.weight") && file.has("transformer_blocks.0.attn.add_q_proj.weight");
    return 4 * released + 4 * diffusers;
}

const Rules whole = {{"pos_embed.proj.", "x_embedder.proj."},
                     {"pos_embed.pos_embed", "pos_embed"},
                     {"time_text_embed.timestep_embedder.linear_1.", "t_embedder.mlp.0."},
                     {"time_text_embed.timestep_embedder.linear_2.", "t_embedder.mlp.2."},
                     {"time_text_embed.text_embedder.linear_1.", "y_embedder.mlp.0."},
                     {"time_text_embed.text_embedder.linear_2.", "y_embedder.mlp.2."},
                     {"norm_out.linear.", "final_layer.scale_shift."},
                     {"final_layer.adaLN_modulation.1.", "final_layer.shift_scale."},
                     {"proj_out.", "final_layer.linear."}};
const Rules inner = {{"norm1.linear.", "x_block.adaLN_modulation.1."},
                     {"norm1_context.linear.", "context_block.adaLN_modulation.1."},
                     {"attn.to_out.0.", "x_block.attn.proj."},
                     {"attn.to_add_out.", "context_block.attn.proj."},
                     {"attn.to_", "x_block.attn.to_"},
                     {"attn2.to_out.0.", "x_block.attn2.proj."},
                     {"attn2.to_", "x_block.attn2.to_"},
                     {"attn2.norm_q.", "x_block.attn2.ln_q."},
                     {"attn2.norm_k.", "x_block.attn2.ln_k."},
                     {"attn.add_q_proj.", "context_block.attn.to_q."},
                     {"attn.add_k_proj.", "context_block.attn.to_k."},
                     {"attn.add_v_proj.", "context_block.attn.to_v."},
                     {"attn.norm_q.", "x_block.attn.ln_q."},
                     {"attn.norm_k.", "x_block.attn.ln_k."},
                     {"attn.norm_added_q.", "context_block.attn.ln_q."},
                     {"attn.norm_added_k.", "context_block.attn.ln_k."},
                     {"ff.net.0.proj.", "x_block.mlp.fc1."},
                     {"ff.net.2.", "x_block.mlp.fc2."},
                     {"ff_context.net.0.proj.", "context_block.mlp.fc1."},
                     {"ff_context.net.2.", "context_block.mlp.fc2."}};

// The last text block has a shift and a scale alone, in this order in the released files, in the other in diffusers'.
std::string canonical(std::string name, int last) {
    if (replace_start(name, whole)) return name;
    std::string_view rest = name;
    bool diffusers = true;
    auto block = take_number(rest, "transformer_blocks.", ".");
    if (!block) {
        diffusers = false;
        block = take_number(rest, "joint_blocks.", ".");
    }
    if (!block) return name;
    std::string text(rest);
    if (diffusers) replace_start(text, inner);
    if (*block == last)
        replace_start(text, {{"context_block.adaLN_modulation.1.",
                              diffusers ? "context_block.scale_shift." : "context_block.shift_scale."}});
    return "joint_blocks." + std::to_string(*block) + "." + text;
}

Renamer renamer(const FileNames& file) {
    const int last = std::max(file.count("joint_blocks."), file.count("transformer_blocks.")) - 1;
    return [last](const std::string& name) { return canonical(name, last); };
}

std::vector<std::string> other_names(const std::string& layer) {
    const std::string name = layer + ".";
    std::vector<std::string> out = replaced_back(name, whole);
    std::string_view rest = name;
    if (const auto block = take_number(rest, "joint_blocks.", "."))
        for (const std::string& text : replaced_back(std::string(rest), inner))
            out.push_back("transformer_blocks." + std::to_string(*block) + "." + text);
    for (std::string& one : out) one.pop_back();
    return out;
}

LayerAliases others(const std::set<std::string>&) { return other_names; }

std::vector<Fusion> fusions() {
    std::vector<Fusion> out;
    out.push_back({".qkv.weight", {".to_q.weight", ".to_k.weight", ".to_v.weight"}});
    out.push_back({".qkv.bias", {".to_q.bias", ".to_k.bias", ".to_v.bias"}});
    out.push_back({".shift_scale.weight", {".shift.weight", ".scale.weight"}});
    out.push_back({".shift_scale.bias", {".shift.bias", ".scale.bias"}});
    out.push_back({".scale_shift.weight", {".scale.weight", ".shift.weight"}});
    out.push_back({".scale_shift.bias", {".scale.bias", ".shift.bias"}});
    return out;
}

}  // namespace

const Component sd3 = {
    .naming = {.name = "sd3",
               .kind = "diffusion_model",
               .prefixes = {"model.diffusion_model."},
               .slots = {"transformer"},
               .config = "transformer",
               .recognises = recognises,
               .renamer = renamer,
               .fused = fusions(),
               .networks = {{"sd3."}},
               .adapters = transformer_adapters(others)},
    .networks = {{"sd3", "Stable Diffusion 3 transformer", Role::denoiser, "sd3.", make_network<Sd3>}},
    .public_prefix = "model.diffusion_model.",
    .option = "diffusion_model",
    .flags = "--diffusion-model",
    .help = "a UNet or transformer alone, in place of the model's or without one",
};

}  // namespace sdcpp
