#include "weights/names.h"

#include <algorithm>
#include <charconv>
#include <optional>
#include <set>
#include <utility>

namespace sdcpp {
namespace {

using Rules = std::vector<std::pair<std::string_view, std::string_view>>;

bool replace_first(std::string& text, std::string_view from, std::string_view to) {
    const size_t at = text.find(from);
    if (at == std::string::npos) return false;
    text.replace(at, from.size(), to);
    return true;
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

std::string unet_resnet(std::string_view name) {
    static const Rules rules = {{"norm1", "in_layers.0"},          {"conv1", "in_layers.2"},
                                {"time_emb_proj", "emb_layers.1"}, {"norm2", "out_layers.0"},
                                {"conv2", "out_layers.3"},         {"conv_shortcut", "skip_connection"}};
    std::string out(name);
    for (const auto& [from, to] : rules)
        if (name.starts_with(from)) return out.replace(0, from.size(), to);
    return out;
}

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
    for (const auto& [from, to] : rules)
        if (full.starts_with(from)) return std::string(to) + full.substr(from.size());
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

class Canonical {
  public:
    explicit Canonical(const TensorFile& file) : file_(file) {
        for (const TensorInfo& tensor : file.tensors) names_.insert(tensor.name);
    }

    bool has(std::string_view name) const { return names_.contains(name); }

    std::string of(const std::string& name, Part part) {
        switch (part) {
            case Part::unet: {
                const std::string plain = without(name, "model.diffusion_model.");
                if (has("conv_in.weight") && has("time_embedding.linear_1.weight"))
                    return "unet." + unet_from_diffusers(plain, layers(), attending());
                return "unet." + plain;
            }
            case Part::vae: {
                const std::string plain = without(name, "first_stage_model.");
                if (levels_ < 0)
                    levels_ = std::max(count_of(file_, "decoder.", "up_blocks.", "."),
                                       count_of(file_, "encoder.", "down_blocks.", "."));
                return "vae." + (levels_ > 0 ? vae_from_diffusers(plain, levels_) : plain);
            }
            case Part::text_encoder:
                return "clip_l." + without(without(without(name, "cond_stage_model."), "transformer."), "text_model.");
            case Part::taesd:
                return taesd_name(name, has("1.weight") && !has("0.weight"),
                                  has("decoder.1.weight") || has("1.weight"));
            case Part::any:
                break;
        }
        return by_prefix(name);
    }

    Part guess() const {
        if (has("input_blocks.0.0.weight") || has("time_embedding.linear_1.weight")) return Part::unet;
        if (has("decoder.layers.0.weight") || has("decoder.1.weight") || has("3.conv.0.weight")) return Part::taesd;
        if (has("decoder.conv_in.weight") || has("encoder.conv_in.weight")) return Part::vae;
        if (has("text_model.embeddings.token_embedding.weight")) return Part::text_encoder;
        return Part::any;
    }

  private:
    static std::string without(const std::string& name, std::string_view prefix) {
        return name.starts_with(prefix) ? name.substr(prefix.size()) : name;
    }

    static std::string by_prefix(const std::string& name) {
        static const Rules prefixes = {{"model.diffusion_model.", "unet."},
                                       {"first_stage_model.", "vae."},
                                       {"cond_stage_model.transformer.text_model.", "clip_l."},
                                       {"cond_stage_model.transformer.", "clip_l."},
                                       {"taesd.", "taesd."}};
        for (const auto& [from, to] : prefixes)
            if (name.starts_with(from)) return std::string(to) + name.substr(from.size());
        return "";
    }

    int layers() {
        if (layers_ < 0) layers_ = std::max(1, count_of(file_, "down_blocks.0.", "resnets.", "."));
        return layers_;
    }

    const std::set<int>& attending() {
        if (!attending_known_) {
            attending_known_ = true;
            for (const std::string_view full : names_) {
                std::string_view name = full;
                const auto level = take_number(name, "up_blocks.", ".");
                if (level && name.starts_with("attentions.")) attending_.insert(*level);
            }
        }
        return attending_;
    }

    const TensorFile& file_;
    std::set<std::string_view> names_;
    int layers_ = -1, levels_ = -1;
    bool attending_known_ = false;
    std::set<int> attending_;
};

}  // namespace

std::vector<NamedTensor> canonical_tensors(const TensorFile& file, Part part) {
    Canonical canonical(file);
    if (part == Part::any) part = canonical.guess();
    std::vector<NamedTensor> out;
    for (const TensorInfo& tensor : file.tensors) {
        std::string name = canonical.of(tensor.name, part);
        if (!name.empty() && !name.ends_with(".position_ids")) out.push_back({std::move(name), tensor});
    }
    return out;
}

}  // namespace sdcpp
