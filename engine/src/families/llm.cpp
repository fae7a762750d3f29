// Decoder-only language models: transformers' names and llama.cpp's.
#include "models/llm.h"

#include "base/error.h"
#include "families/family.h"

namespace sdcpp {
namespace {

int recognises(const FileNames& file) {
    return file.has("model.embed_tokens.weight") + file.has("token_embd.weight") + file.has("embed_tokens.weight") +
           file.has("language_model.model.embed_tokens.weight") + file.has("language_model.embed_tokens.weight") +
           file.has("model.language_model.embed_tokens.weight");
}

std::string canonical(std::string name) {
    static const Rules whole = {{"token_embd.", "embed_tokens."}, {"output_norm.", "norm."}, {"output.", "lm_head."}};
    static const Rules inner = {{"attn_q.", "self_attn.q_proj."},      {"attn_k.", "self_attn.k_proj."},
                                {"attn_v.", "self_attn.v_proj."},      {"attn_output.", "self_attn.o_proj."},
                                {"attn_q_norm.", "self_attn.q_norm."}, {"attn_k_norm.", "self_attn.k_norm."},
                                {"attn_norm.", "input_layernorm."},    {"ffn_norm.", "post_attention_layernorm."},
                                {"ffn_gate.", "mlp.gate_proj."},       {"ffn_up.", "mlp.up_proj."},
                                {"ffn_down.", "mlp.down_proj."}};
    for (const std::string_view prefix : {"language_model.", "model.", "language_model."})
        if (name.starts_with(prefix)) name.erase(0, prefix.size());
    if (replace_start(name, whole)) return name;
    std::string_view rest = name;
    if (const auto layer = take_number(rest, "blk.", ".")) {
        std::string layers(rest);
        if (replace_start(layers, inner)) return "layers." + std::to_string(*layer) + "." + layers;
    }
    return name;
}

// Models of one shape, such as Qwen3 and the language part of Qwen3-VL, differ in their positions: a wrong one would
// read prompts as noise.
std::unique_ptr<Network> make(const ModelFiles& files) {
    constexpr double qwen3_vl = 5e6;
    const LanguageModel wanted = family_of(files).text.language_model;
    double own = Llm::rotary_base_of(files.config()["text_encoder"]);
    if (own == 0 && files.has_prefix("llm.visual.") && files.find("llm.layers.0.self_attn.q_norm.weight"))
        own = qwen3_vl;
    if (!wanted.title.empty() && own > 0 && own != wanted.rotary_base)
        fail(SDCPP_UNSUPPORTED_MODEL, "the language model has rotary positions of base ", own, "; ",
             family_of(files).title, " takes ", wanted.title, ", whose base is ", wanted.rotary_base);
    return std::make_unique<Llm>(files, own > 0 ? own : wanted.rotary_base);
}

// Where all-in-one files keep it, by the models that they hold.
std::vector<std::string_view> prefixes() {
    std::vector<std::string_view> out = {"text_encoders.llm."};
    for (const std::string_view prefix :
         {"text_encoders.qwen3_06b.transformer.", "text_encoders.qwen3_4b.transformer.",
          "text_encoders.qwen3_8b.transformer.", "text_encoders.qwen3vl_4b.transformer.",
          "text_encoders.qwen3vl_8b.transformer.", "text_encoders.qwen25_7b.transformer.", "text_encoders.qwen3_4b."})
        out.push_back(prefix);
    return out;
}

}  // namespace

const Component llm = {
    .naming = {.name = "llm",
               .kind = "text_encoder",
               .prefixes = prefixes(),
               .slots = {"text_encoder"},
               .config = "text_encoder",
               .recognises = recognises,
               .renamer = [](const FileNames&) -> Renamer { return canonical; },
               .networks = {{"llm."}},
               .metadata = {{".rope.freq_base", "rope_theta"},
                            {".attention.layer_norm_rms_epsilon", "rms_norm_eps"},
                            {".attention.head_count", "num_attention_heads"}},
               .adapters = {.dotted = {"text_encoder.", "text_encoders.llm.", "text_encoders.qwen3_4b.transformer."},
                            .joined = {"lora_te_", "lora_te1_"},
                            .others = [](const std::set<std::string>&) -> LayerAliases {
                                return
                                    [](const std::string& layer) { return std::vector<std::string>{"model." + layer}; };
                            }}},
    .networks = {{"llm", "text encoder (language model)", Role::text_encoder, "llm.", make}},
    .public_prefix = "text_encoders.llm.",
    .option = "llm",
    .flags = "--llm",
    .help = "the language model that reads the prompt",
};

}  // namespace sdcpp
