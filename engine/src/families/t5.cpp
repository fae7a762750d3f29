// T5's encoder: transformers' names and llama.cpp's.
#include "models/t5.h"

#include "families/component.h"

namespace sdcpp {
namespace {

int recognises(const FileNames& file) {
    return file.has("encoder.block.0.layer.0.SelfAttention.q.weight") + file.has("shared.weight") +
           file.has("enc.blk.0.attn_rel_b.weight") * 2;
}

std::string canonical(std::string name) {
    static const Rules whole = {{"token_embd.", "shared."},
                                {"enc.output_norm.", "encoder.final_layer_norm."},
                                {"encoder.embed_tokens.", "shared."}};
    static const Rules inner = {{"attn_rel_b.", "0.SelfAttention.relative_attention_bias."},
                                {"attn_q.", "0.SelfAttention.q."},
                                {"attn_k.", "0.SelfAttention.k."},
                                {"attn_v.", "0.SelfAttention.v."},
                                {"attn_o.", "0.SelfAttention.o."},
                                {"attn_norm.", "0.layer_norm."},
                                {"ffn_gate.", "1.DenseReluDense.wi_0."},
                                {"ffn_up.", "1.DenseReluDense.wi_1."},
                                {"ffn_down.", "1.DenseReluDense.wo."},
                                {"ffn_norm.", "1.layer_norm."}};
    if (replace_start(name, whole)) return name;
    std::string_view rest = name;
    if (const auto block = take_number(rest, "enc.blk.", ".")) {
        std::string layer(rest);
        if (replace_start(layer, inner)) return "encoder.block." + std::to_string(*block) + ".layer." + layer;
    }
    return name;
}

}  // namespace

const Component t5 = {
    .naming = {.name = "t5",
               .kind = "text_encoder",
               .prefixes = {"text_encoders.t5xxl.transformer.", "text_encoders.t5xxl.",
                            "text_encoders.t5.transformer."},
               .slots = {"text_encoder_2", "text_encoder_3"},
               .config = "t5",
               .recognises = recognises,
               .renamer = [](const FileNames&) -> Renamer { return canonical; },
               .networks = {{"t5."}},
               .metadata = {{".attention.layer_norm_rms_epsilon", "layer_norm_epsilon"}},
               .adapters = {.dotted = {"text_encoder_2.", "text_encoder_3.", "text_encoders.t5xxl.transformer.",
                                       "t5xxl.transformer."},
                            .joined = {"lora_te3_", "lora_te2_"},
                            .others = nullptr}},
    .networks = {{"t5", "text encoder (T5)", Role::text_encoder, "t5.", make_network<T5>}},
    .public_prefix = "text_encoders.t5xxl.transformer.",
    .option = "text_encoders",
    .flags = "--t5xxl",
    .help = "the T5 text encoder, such as t5xxl_fp16.safetensors",
};

}  // namespace sdcpp
