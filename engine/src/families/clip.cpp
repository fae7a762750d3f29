// CLIP's text models: transformers' names and open_clip's. Released ones without a config can be told
// apart by their widths.
#include "models/clip.h"

#include "families/component.h"

namespace sdcpp {
namespace {

constexpr std::string_view table = "token_embedding.weight";

// One fact for each of: a text model, the folder it usually lies in, its width.
int facts(const FileNames& file, int64_t width, std::string_view slot) {
    const int64_t own = file.side_of_ending(table, 1);
    const bool text = file.has("text_model.embeddings.token_embedding.weight") || file.has("token_embedding.weight") ||
                      file.has("transformer.text_model.embeddings.token_embedding.weight") ||
                      file.has("embeddings.token_embedding.weight");
    return text ? 1 + (own == width) * 2 + (file.slot() == slot) : 0;
}

std::string without(std::string name, std::string_view prefix) {
    if (name.starts_with(prefix)) name.erase(0, prefix.size());
    return name;
}

// open_clip's attention keeps q, k and v in one tensor.
std::string canonical(std::string name) {
    static const Rules rules = {{"token_embedding.weight", "embeddings.token_embedding.weight"},
                                {"positional_embedding", "embeddings.position_embedding.weight"},
                                {"transformer.resblocks.", "encoder.layers."},
                                {"ln_final.", "final_layer_norm."}};
    static const Rules inner = {{".ln_1.", ".layer_norm1."},
                                {".ln_2.", ".layer_norm2."},
                                {".mlp.c_fc.", ".mlp.fc1."},
                                {".mlp.c_proj.", ".mlp.fc2."},
                                {".attn.", ".self_attn."}};
    for (const std::string_view prefix : {"cond_stage_model.", "transformer.text_model.", "text_model."})
        name = without(std::move(name), prefix);
    if (name.starts_with("transformer.") && !name.starts_with("transformer.resblocks."))
        name = without(name, "transformer.");
    replace_start(name, rules);
    for (const auto& [from, to] : inner) replace_first(name, from, to);
    return name.ends_with(".position_ids") ? "" : name;
}

Renamer renamer(const FileNames&) { return canonical; }

// transformers' names of a layer, and those of the library diffusers before it used PEFT.
std::vector<std::string> other_names(const std::string& layer) {
    static const Rules older = {{".self_attn.q_proj", ".self_attn.to_q"},
                                {".self_attn.k_proj", ".self_attn.to_k"},
                                {".self_attn.v_proj", ".self_attn.to_v"},
                                {".self_attn.out_proj", ".self_attn.to_out"}};
    std::vector<std::string> out = {"text_model." + layer};
    for (const auto& [from, to] : older)
        if (std::string name = layer; replace_first(name, from, to)) out.push_back("text_model." + name);
    return out;
}

LayerAliases others(const std::set<std::string>&) { return other_names; }

const std::vector<std::string_view> weights = {".self_attn.q_proj.weight", ".self_attn.k_proj.weight",
                                               ".self_attn.v_proj.weight"};
const std::vector<std::string_view> biases = {".self_attn.q_proj.bias", ".self_attn.k_proj.bias",
                                              ".self_attn.v_proj.bias"};
const std::vector<Fusion> fused = {{".self_attn.in_proj_weight", weights},
                                   {".self_attn.in_proj_bias", biases},
                                   {".self_attn.in_proj.weight", weights},
                                   {".self_attn.in_proj.bias", biases}};

constexpr int32_t end_of_text = 49407;

}  // namespace

const Component clip_l = {
    .naming = {.name = "clip_l",
               .kind = "text_encoder",
               .prefixes = {"cond_stage_model.transformer.text_model.", "cond_stage_model.transformer.",
                            "conditioner.embedders.0.transformer.text_model.",
                            "text_encoders.clip_l.transformer.text_model.", "text_encoders.clip_l.transformer."},
               .slots = {"text_encoder"},
               .config = "text_encoder",
               .recognises = [](const FileNames& file) { return facts(file, 768, "text_encoder"); },
               .renamer = renamer,
               .fused = fused,
               .networks = {{"clip_l."}},
               .adapters = {.dotted = {"text_encoder.", "text_encoders.clip_l.transformer.", "clip_l.transformer.",
                                       "base_model.model.text_encoder.", "te1."},
                            .joined = {"lora_te_", "lora_te1_", "lycoris_te_", "lycoris_te1_"},
                            .others = others}},
    .networks = {{"clip_l", "text encoder (CLIP-L)", Role::text_encoder, "clip_l.",
                  [](const ModelFiles& files) -> std::unique_ptr<Network> {
                      return std::make_unique<ClipText>(
                          files, ClipText::Sort{"clip_l", "text_encoder", "quick_gelu", end_of_text});
                  }}},
    .public_prefix = "text_encoders.clip_l.transformer.text_model.",
    .option = "text_encoders",
    .flags = "--clip_l",
    .help = "the CLIP-L text encoder, such as clip_l.safetensors",
};

// open_clip fills chunks with zeros, OpenAI's tokenizer with end marks.
const Component clip_g = {
    .naming = {.name = "clip_g",
               .kind = "text_encoder",
               // the refiner's only text encoder is the first; older GGUF files count from the second on
               .prefixes = {"conditioner.embedders.0.model.", "conditioner.embedders.1.model.",
                            "cond_stage_model.1.transformer.text_model.", "cond_stage_model.1.transformer.",
                            "text_encoders.clip_g.transformer.text_model.", "text_encoders.clip_g.transformer."},
               .slots = {"text_encoder_2"},
               .config = "text_encoder_2",
               .recognises = [](const FileNames& file) { return facts(file, 1280, "text_encoder_2"); },
               .renamer = renamer,
               .fused = fused,
               .networks = {{"clip_g."}},
               .adapters = {.dotted = {"text_encoder_2.", "text_encoders.clip_g.transformer.", "clip_g.transformer.",
                                       "base_model.model.text_encoder_2.", "te2."},
                            .joined = {"lora_te2_", "lycoris_te2_"},
                            .others = others}},
    .networks = {{"clip_g", "text encoder (CLIP-G)", Role::text_encoder, "clip_g.",
                  [](const ModelFiles& files) -> std::unique_ptr<Network> {
                      return std::make_unique<ClipText>(files, ClipText::Sort{"clip_g", "text_encoder_2", "gelu", 0});
                  }}},
    .public_prefix = "text_encoders.clip_g.transformer.text_model.",
    .option = "text_encoders",
    .flags = "--clip_g",
    .help = "the CLIP-G text encoder, such as clip_g.safetensors",
};

const Component clip_h = {
    .naming = {.name = "clip_h",
               .kind = "text_encoder",
               // shared with the narrower and the wider one; the width tells
               .prefixes = {"cond_stage_model.model.", "conditioner.embedders.0.model.",
                            "cond_stage_model.transformer.text_model.", "cond_stage_model.transformer.",
                            "text_encoders.clip_h.transformer.text_model.", "text_encoders.clip_h.transformer."},
               .slots = {"text_encoder"},
               .config = "text_encoder",
               .recognises = [](const FileNames& file) { return facts(file, 1024, "none"); },
               .renamer = renamer,
               .fused = fused,
               .networks = {{"clip_h."}},
               .adapters = {.dotted = {"text_encoder.", "text_encoders.clip_h.transformer.", "clip_h.transformer.",
                                       "base_model.model.text_encoder."},
                            .joined = {"lora_te_", "lora_te1_", "lycoris_te_"},
                            .others = others}},
    .networks = {{"clip_h", "text encoder (CLIP-H)", Role::text_encoder, "clip_h.",
                  [](const ModelFiles& files) -> std::unique_ptr<Network> {
                      return std::make_unique<ClipText>(files, ClipText::Sort{"clip_h", "text_encoder", "gelu", 0});
                  }}},
    .public_prefix = "text_encoders.clip_h.transformer.text_model.",
    .option = "text_encoders",
    .flags = "",
    .help = "",
};

}  // namespace sdcpp
