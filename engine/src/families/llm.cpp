// Decoder-only language models: transformers' names and llama.cpp's.
#include "models/llm.h"

#include "families/component.h"

namespace sdcpp {
namespace {

int recognises(const FileNames& file) {
    return file.has("model.embed_tokens.weight") + file.has("token_embd.weight") + file.has("embed_tokens.weight") +
           file.has("language_model.model.embed_tokens.weight");
}

std::string canonical(std::string name) {
    static const Rules whole = {{"token_embd.", "embed_tokens."}, {"output_norm.", "norm."}, {"output.", "lm_head."}};
    static const Rules inner = {{"attn_q.", "self_attn.q_proj."},      {"attn_k.", "self_attn.k_proj."},
                                {"attn_v.", "self_attn.v_proj."},      {"attn_output.", "self_attn.o_proj."},
                                {"attn_q_norm.", "self_attn.q_norm."}, {"attn_k_norm.", "self_attn.k_norm."},
                                {"attn_norm.", "input_layernorm."},    {"ffn_norm.", "post_attention_layernorm."},
                                {"ffn_gate.", "mlp.gate_proj."},       {"ffn_up.", "mlp.up_proj."},
                                {"ffn_down.", "mlp.down_proj."}};
    for (const std::string_view prefix : {"language_model.", "model."})
        if (name.starts_with(prefix)) name.erase(0, prefix.size());
    if (replace_start(name, whole)) return name;
    std::string_view rest = name;
    if (const auto layer = take_number(rest, "blk.", ".")) {
        std::string layers(rest);
        if (replace_start(layers, inner)) return "layers." + std::to_string(*layer) + "." + layers;
    }
    return name;
}

}  // namespace

const Component llm = {
    .naming = {.name = "llm",
               .kind = "text_encoder",
               .prefixes = {"text_encoders.llm.", "text_encoders.qwen3_4b.transformer.", "text_encoders.qwen3_4b."},
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
    .networks = {{"llm", "text encoder (language model)", Role::text_encoder, "llm.", make_network<Llm>}},
    .public_prefix = "text_encoders.llm.",
    .option = "llm",
    .flags = "--llm",
    .help = "the language model that reads the prompt",
};

}  // namespace sdcpp
