#include "families/adapters.h"

#include <algorithm>
#include <sstream>

namespace sdcpp {
namespace {

// Parts of names of which any one tells; dots are underscores. Rows before others have names that the others lack.
struct Row {
    std::string_view title, tells;
};
constexpr Row rows[] = {
    {"HunyuanVideo", "individual_token_refiner_"},
    {"FLUX.1", "double_blocks_ single_blocks_ single_transformer_blocks_"},
    {"Stable Diffusion 3", "joint_blocks_ context_block_"},
    {"Qwen-Image", "img_mlp_net_ img_mod_1 txt_mod_1"},
    {"Z-Image or Lumina 2",
     "noise_refiner_ context_refiner_ layers_0_attention_ layers_0_feed_forward_ layers_1_attention_"},
    {"Wan", "blocks_0_cross_attn_ blocks_0_self_attn_ blocks_0_ffn_ condition_embedder_"},
    {"Stable Diffusion XL",
     "lora_te2_text_model_ text_encoder_2_text_model_ add_embedding_ label_emb_ input_blocks_7_1_transformer_blocks_9_ "
     "middle_block_1_transformer_blocks_9_ mid_block_attentions_0_transformer_blocks_9_"},
    {"Stable Diffusion 1 or 2", "down_blocks_ up_blocks_ mid_block_ input_blocks_ output_blocks_ middle_block_"},
};

}  // namespace

std::string adapter_title(const TensorFile& file) {
    std::vector<std::string> names;
    for (const TensorInfo& tensor : file.tensors) {
        names.push_back(tensor.name);
        std::replace(names.back().begin(), names.back().end(), '.', '_');
    }
    for (const Row& row : rows) {
        std::istringstream words{std::string(row.tells)};
        for (std::string word; words >> word;)
            if (std::any_of(names.begin(), names.end(),
                            [&](const std::string& name) { return name.find(word) != std::string::npos; }))
                return std::string(row.title);
    }
    return "";
}

AdapterNaming transformer_adapters(LayerAliases (*others)(const std::set<std::string>& layers)) {
    return {.dotted = {"transformer.", "diffusion_model.", "model.diffusion_model.", "base_model.model.",
                       "base_model.model.transformer.", "unet.", "pipe.", "pipe.dit.", "dit."},
            .joined = {"lora_unet_", "lora_transformer_", "lycoris_"},
            .others = others};
}

}  // namespace sdcpp
