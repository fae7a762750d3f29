#include "families/unet_names.h"

#include "weights/naming.h"

namespace sdcpp {
namespace {

std::string resnet(std::string_view name) {
    static const Rules rules = {{"norm1", "in_layers.0"},          {"conv1", "in_layers.2"},
                                {"time_emb_proj", "emb_layers.1"}, {"norm2", "out_layers.0"},
                                {"conv2", "out_layers.3"},         {"conv_shortcut", "skip_connection"}};
    std::string out(name);
    replace_start(out, rules);
    return out;
}

}  // namespace

std::string unet_name(const std::string& full, int layers, const std::set<int>& attending) {
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
        return "middle_block." + std::to_string(*n * 2) + "." + resnet(name);
    if (const auto level = take_number(name, "down_blocks.", ".")) {
        const int first = 1 + *level * (layers + 1);
        if (const auto n = take_number(name, "resnets.", "."))
            return numbered("input_blocks.", first + *n, 0, resnet(name));
        if (const auto n = take_number(name, "attentions.", ".")) return numbered("input_blocks.", first + *n, 1, name);
        if (name.starts_with("downsamplers.0.conv."))
            return numbered("input_blocks.", first + layers, 0, "op." + std::string(name.substr(20)));
    }
    if (const auto level = take_number(name, "up_blocks.", ".")) {
        const int first = *level * (layers + 1);
        if (const auto n = take_number(name, "resnets.", "."))
            return numbered("output_blocks.", first + *n, 0, resnet(name));
        if (const auto n = take_number(name, "attentions.", "."))
            return numbered("output_blocks.", first + *n, 1, name);
        if (name.starts_with("upsamplers.0."))
            return numbered("output_blocks.", first + layers, attending.contains(*level) ? 2 : 1, name.substr(13));
    }
    return full;
}

}  // namespace sdcpp
