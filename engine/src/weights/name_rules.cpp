// The namings that files come in, to the engine's own: one function for each foreign naming of a network.
#include "weights/name_rules.h"

#include <algorithm>
#include <charconv>
#include <tuple>

namespace sdcpp {

bool replace_first(std::string& text, std::string_view from, std::string_view to) {
    const size_t at = text.find(from);
    if (at == std::string::npos) return false;
    text.replace(at, from.size(), to);
    return true;
}

// Puts the new text in place of the old one that `text` begins with, by the first rule that fits.
bool replace_start(std::string& text, const Rules& rules) {
    for (const auto& [from, to] : rules) {
        if (!text.starts_with(from)) continue;
        text.replace(0, from.size(), to);
        return true;
    }
    return false;
}

// Takes `before`, a number and `after` off the front of `text`: "down_blocks.2.resnets." gives 2.
std::optional<int> take_number(std::string_view& text, std::string_view before, std::string_view after) {
    if (!text.starts_with(before)) return std::nullopt;
    int number = 0;
    const char* first = text.data() + before.size();
    const auto [end, ec] = std::from_chars(first, text.data() + text.size(), number);
    if (ec != std::errc() || number < 0 || number > 999) return std::nullopt;
    const std::string_view rest(end, static_cast<size_t>(text.data() + text.size() - end));
    if (!rest.starts_with(after)) return std::nullopt;
    text = rest.substr(after.size());
    return number;
}

// One past the largest number that stands between `before` and `after` at the start of a name.
int count_of(const TensorFile& file, std::string_view prefix, std::string_view before, std::string_view after) {
    int count = 0;
    for (const TensorInfo& tensor : file.tensors) {
        std::string_view name = tensor.name;
        if (!name.starts_with(prefix)) continue;
        name.remove_prefix(prefix.size());
        if (const auto number = take_number(name, before, after)) count = std::max(count, *number + 1);
    }
    return count;
}

namespace {

std::string unet_resnet(std::string_view name) {
    static const Rules rules = {{"norm1", "in_layers.0"},          {"conv1", "in_layers.2"},
                                {"time_emb_proj", "emb_layers.1"}, {"norm2", "out_layers.0"},
                                {"conv2", "out_layers.3"},         {"conv_shortcut", "skip_connection"}};
    std::string out(name);
    replace_start(out, rules);
    return out;
}

}  // namespace

// diffusers' UNet2DConditionModel to the original numbering; `layers` blocks a level.
std::string unet_from_diffusers(const std::string& full, int layers, const std::set<int>& up_with_attention) {
    static const Rules rules = {{"conv_in.", "input_blocks.0.0."},
                                {"time_embedding.linear_1.", "time_embed.0."},
                                {"time_embedding.linear_2.", "time_embed.2."},
                                {"add_embedding.linear_1.", "label_emb.0.0."},
                                {"add_embedding.linear_2.", "label_emb.0.2."},
                                {"conv_norm_out.", "out.0."},
                                {"conv_out.", "out.2."},
                                {"mid_block.attentions.0.", "middle_block.1."}};
    std::string whole = full;
    if (replace_start(whole, rules)) return whole;
    std::string_view name = full;
    const auto numbered = [](const char* blocks, int block, int layer, std::string_view rest) {
        return std::string(blocks) + std::to_string(block) + "." + std::to_string(layer) + "." + std::string(rest);
    };
    if (const auto n = take_number(name, "mid_block.resnets.", "."))
        return "middle_block." + std::to_string(*n * 2) + "." + unet_resnet(name);
    if (const auto level = take_number(name, "down_blocks.", ".")) {
        const int first = 1 + *level * (layers + 1);
        if (const auto n = take_number(name, "resnets.", "."))
            return numbered("input_blocks.", first + *n, 0, unet_resnet(name));
        if (const auto n = take_number(name, "attentions.", ".")) return numbered("input_blocks.", first + *n, 1, name);
        if (name.starts_with("downsamplers.0.conv."))
            return numbered("input_blocks.", first + layers, 0, "op." + std::string(name.substr(20)));
    }
    if (const auto level = take_number(name, "up_blocks.", ".")) {
        const int first = *level * (layers + 1);
        if (const auto n = take_number(name, "resnets.", "."))
            return numbered("output_blocks.", first + *n, 0, unet_resnet(name));
        if (const auto n = take_number(name, "attentions.", "."))
            return numbered("output_blocks.", first + *n, 1, name);
        if (name.starts_with("upsamplers.0."))
            return numbered("output_blocks.", first + layers, up_with_attention.contains(*level) ? 2 : 1,
                            name.substr(13));
    }
    return full;
}

// diffusers' AutoencoderKL to the original names; its decoder counts levels from the other end.
std::string vae_from_diffusers(std::string name, int levels) {
    const std::string side = name.substr(0, name.find('.') + 1);  // "encoder." or "decoder."
    std::string_view rest = std::string_view(name).substr(side.size());
    std::string out = name;
    const auto level_name = [&](int level, std::string_view inner) {
        std::string text(inner);
        const bool down = side == "encoder.";
        if (const auto n = take_number(inner, "resnets.", ".")) {
            text = "block." + std::to_string(*n) + "." + std::string(inner);
        } else {
            replace_first(text, down ? "downsamplers.0." : "upsamplers.0.", down ? "downsample." : "upsample.");
        }
        return side + (down ? "down." : "up.") + std::to_string(down ? level : levels - 1 - level) + "." + text;
    };
    if (const auto down = take_number(rest, "down_blocks.", ".")) out = level_name(*down, rest);
    if (const auto up = take_number(rest, "up_blocks.", ".")) out = level_name(*up, rest);
    static const Rules rules = {{"mid_block.resnets.0.", "mid.block_1."},
                                {"mid_block.resnets.1.", "mid.block_2."},
                                {"mid_block.attentions.0.", "mid.attn_1."},
                                {"conv_norm_out.", "norm_out."},
                                {"conv_shortcut.", "nin_shortcut."}};
    for (const auto& [from, to] : rules) replace_first(out, from, to);
    if (out.find("mid.attn_1.") != std::string::npos) {
        static const Rules attention = {{"group_norm.", "norm."},   {"to_q.", "q."},  {"to_k.", "k."}, {"to_v.", "v."},
                                        {"to_out.0.", "proj_out."}, {"query.", "q."}, {"key.", "k."},  {"value.", "v."},
                                        {"proj_attn.", "proj_out."}};
        for (const auto& [from, to] : attention)
            if (replace_first(out, from, to)) break;
    }
    return out;
}

// TAESD under the numbering of diffusers' AutoencoderTiny; the original decoder counts its clamp as layer 0.
std::string taesd_name(const std::string& full, bool whole_decoder_file, bool decoder_has_clamp) {
    std::string side = whole_decoder_file ? "decoder." : "encoder.";
    std::string_view rest = full;
    for (const std::string_view known : {"encoder.", "decoder."}) {
        if (!rest.starts_with(known)) continue;
        side = known;
        rest.remove_prefix(known.size());
    }
    if (rest.starts_with("layers.")) return "taesd." + side + std::string(rest.substr(7));
    if (side == "decoder." && decoder_has_clamp) {
        std::string_view after = rest;
        if (const auto n = take_number(after, "", "."))
            return "taesd.decoder." + std::to_string(*n - 1) + "." + std::string(after);
    }
    return "taesd." + side + std::string(rest);
}

// open_clip's text transformer to transformers' names. Its attention keeps q, k and v in one tensor (see fused_parts).
std::string clip_from_open_clip(std::string name) {
    static const Rules rules = {{"token_embedding.weight", "embeddings.token_embedding.weight"},
                                {"positional_embedding", "embeddings.position_embedding.weight"},
                                {"transformer.resblocks.", "encoder.layers."},
                                {"ln_final.", "final_layer_norm."}};
    static const Rules inner = {{".ln_1.", ".layer_norm1."},
                                {".ln_2.", ".layer_norm2."},
                                {".mlp.c_fc.", ".mlp.fc1."},
                                {".mlp.c_proj.", ".mlp.fc2."},
                                {".attn.", ".self_attn."}};
    replace_start(name, rules);
    for (const auto& [from, to] : inner) replace_first(name, from, to);
    return name;
}

// llama.cpp's names of a decoder-only language model to transformers'.
std::string llm_from_llama_cpp(std::string name) {
    static const Rules whole = {{"token_embd.", "embed_tokens."}, {"output_norm.", "norm."}, {"output.", "lm_head."}};
    static const Rules inner = {{"attn_q.", "self_attn.q_proj."},      {"attn_k.", "self_attn.k_proj."},
                                {"attn_v.", "self_attn.v_proj."},      {"attn_output.", "self_attn.o_proj."},
                                {"attn_q_norm.", "self_attn.q_norm."}, {"attn_k_norm.", "self_attn.k_norm."},
                                {"attn_norm.", "input_layernorm."},    {"ffn_norm.", "post_attention_layernorm."},
                                {"ffn_gate.", "mlp.gate_proj."},       {"ffn_up.", "mlp.up_proj."},
                                {"ffn_down.", "mlp.down_proj."}};
    if (replace_start(name, whole)) return name;
    std::string_view rest = name;
    if (const auto layer = take_number(rest, "blk.", ".")) {
        std::string layers(rest);
        if (replace_start(layers, inner)) return "layers." + std::to_string(*layer) + "." + layers;
    }
    return name;
}

// diffusers' ZImageTransformer2DModel to the released checkpoint's names, but with q, k and v by themselves.
std::string z_image_from_diffusers(std::string name) {
    static const Rules rules = {{"all_x_embedder.2-1.", "x_embedder."}, {"all_final_layer.2-1.", "final_layer."}};
    static const Rules inner = {{".attention.to_out.0.", ".attention.out."},
                                {".attention.norm_q.", ".attention.q_norm."},
                                {".attention.norm_k.", ".attention.k_norm."}};
    replace_start(name, rules);
    for (const auto& [from, to] : inner) replace_first(name, from, to);
    return name;
}

std::vector<std::string> fused_parts(const std::string& name) {
    std::vector<std::string> out;
    for (const auto& [fused, before, after] : {std::tuple{".self_attn.in_proj_weight", ".self_attn.", "_proj.weight"},
                                               {".self_attn.in_proj_bias", ".self_attn.", "_proj.bias"},
                                               {".attention.qkv.weight", ".attention.to_", ".weight"}}) {
        if (!name.ends_with(fused)) continue;
        const std::string stem = name.substr(0, name.size() - std::string_view(fused).size());
        for (const char* part : {"q", "k", "v"}) out.push_back(stem + before + part + after);
    }
    return out;
}

}  // namespace sdcpp
