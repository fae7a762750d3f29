// CLIP's vision models under transformers' and open_clip's names: the eyes of adapters that follow a picture.
#include "models/clip_vision.h"

#include "families/component.h"

namespace sdcpp {
namespace {

int recognises(const FileNames& file) {
    return file.has("vision_model.embeddings.class_embedding") || file.has("visual.class_embedding") ? 1 : 0;
}

// open_clip's vision tower to transformers' names; its attention keeps q, k and v in one tensor.
std::string of_open_clip(std::string name) {
    static const Rules outer = {
        {"visual.class_embedding", "vision_model.embeddings.class_embedding"},
        {"visual.positional_embedding", "vision_model.embeddings.position_embedding.weight"},
        {"visual.conv1.", "vision_model.embeddings.patch_embedding."},
        {"visual.ln_pre.", "vision_model.pre_layrnorm."},
        {"visual.ln_post.", "vision_model.post_layernorm."},
        {"visual.transformer.resblocks.", "vision_model.encoder.layers."},
        {"visual.proj", "visual_projection"},
    };
    static const Rules inner = {{".ln_1.", ".layer_norm1."},
                                {".ln_2.", ".layer_norm2."},
                                {".mlp.c_fc.", ".mlp.fc1."},
                                {".mlp.c_proj.", ".mlp.fc2."},
                                {".attn.", ".self_attn."}};
    if (!replace_start(name, outer)) return "";
    for (const auto& [from, to] : inner) replace_first(name, from, to);
    return name;
}

// Whole CLIP models hold a text model, too.
Renamer renamer(const FileNames& file) {
    if (file.has("visual.class_embedding")) return of_open_clip;
    return [](const std::string& name) {
        const bool own = name.starts_with("vision_model.") || name.starts_with("visual_projection.");
        return own && !name.ends_with(".position_ids") ? name : std::string();
    };
}

const std::vector<std::string_view> weights = {".self_attn.q_proj.weight", ".self_attn.k_proj.weight",
                                               ".self_attn.v_proj.weight"};
const std::vector<std::string_view> biases = {".self_attn.q_proj.bias", ".self_attn.k_proj.bias",
                                              ".self_attn.v_proj.bias"};

}  // namespace

const Component clip_vision = {
    .naming = {.name = "clip_vision",
               .kind = "clip_vision",
               .prefixes = {"clip_vision."},
               .slots = {"image_encoder"},
               .config = "clip_vision",
               .recognises = recognises,
               .renamer = renamer,
               .fused = {{".self_attn.in_proj_weight", weights}, {".self_attn.in_proj_bias", biases}},
               .networks = {{"clip_vision."}}},
    .networks = {{"clip_vision", "CLIP vision encoder", Role::vision_encoder, "clip_vision.",
                  make_network<ClipVision>}},
    .public_prefix = "clip_vision.",
    .option = "clip_vision",
    .flags = "--clip_vision",
    .help = "the CLIP vision encoder of IP-Adapters, such as the image_encoder folder beside them",
};

}  // namespace sdcpp
