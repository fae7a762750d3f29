#include "weights/names.h"

#include <algorithm>
#include <optional>
#include <set>
#include <utility>

#include "weights/name_rules.h"

namespace sdcpp {
namespace {

// Widths at which released CLIP text models that do not say what they are can be told apart.
constexpr int64_t clip_g_width = 1280, clip_h_width = 1024;

class Canonical {
  public:
    explicit Canonical(const TensorFile& file) : file_(file) {
        for (const TensorInfo& tensor : file.tensors) tensors_[tensor.name] = &tensor;
    }

    bool has(std::string_view name) const { return tensors_.contains(name); }

    std::string of(const std::string& name, Part part) {
        switch (part) {
            case Part::diffusion:
                return diffusion(without(name, diffusion_prefix));
            case Part::vae: {
                const std::string plain = without(name, "first_stage_model.");
                if (levels_ < 0)
                    levels_ = std::max(count_of(file_, "decoder.", "up_blocks.", "."),
                                       count_of(file_, "encoder.", "down_blocks.", "."));
                return "vae." + (levels_ > 0 ? vae_from_diffusers(plain, levels_) : plain);
            }
            case Part::text_encoder:
                return text_encoder(name);
            case Part::clip_l:
                return clip("clip_l.", name);
            case Part::clip_g:
                return clip("clip_g.", name);
            case Part::llm:
                return "llm." + llm_from_llama_cpp(without(without(name, "language_model."), "model."));
            case Part::taesd:
                return taesd_name(name, has("1.weight") && !has("0.weight"),
                                  has("decoder.1.weight") || has("1.weight"));
            case Part::any:
                break;
        }
        return by_prefix(name);
    }

    Part guess() const {
        if (has("input_blocks.0.0.weight") || has("time_embedding.linear_1.weight") || has("cap_embedder.1.weight"))
            return Part::diffusion;
        if (has("decoder.layers.0.weight") || has("decoder.1.weight") || has("3.conv.0.weight")) return Part::taesd;
        if (has("decoder.conv_in.weight") || has("encoder.conv_in.weight")) return Part::vae;
        if (has("text_model.embeddings.token_embedding.weight") || has("token_embedding.weight") || is_llm())
            return Part::text_encoder;
        return Part::any;
    }

  private:
    static constexpr std::string_view diffusion_prefix = "model.diffusion_model.";

    static std::string without(const std::string& name, std::string_view prefix) {
        return name.starts_with(prefix) ? name.substr(prefix.size()) : name;
    }

    // A checkpoint of several networks: its prefixes say what is what.
    std::string by_prefix(const std::string& name) {
        if (name.starts_with(diffusion_prefix)) return diffusion(name.substr(diffusion_prefix.size()));
        static const Rules prefixes = {
            {"first_stage_model.", "vae."},
            {"cond_stage_model.transformer.text_model.", "clip_l."},
            {"cond_stage_model.transformer.", "clip_l."},
            {"cond_stage_model.model.", "clip_h."},
            {"conditioner.embedders.0.transformer.text_model.", "clip_l."},
            {"conditioner.embedders.0.model.", "clip_g."},  // the refiner's only text encoder
            {"conditioner.embedders.1.model.", "clip_g."},
            {"text_encoders.clip_l.transformer.text_model.", "clip_l."},
            {"text_encoders.clip_g.transformer.text_model.", "clip_g."},
            {"text_encoders.clip_g.transformer.", "clip_g."},
            {"text_encoders.clip_h.transformer.text_model.", "clip_h."},
            {"text_encoders.clip_h.transformer.", "clip_h."},
            {"text_encoders.llm.", "llm."},
            {"text_encoders.qwen3_4b.transformer.model.", "llm."},
            {"taesd.", "taesd."}};
        for (const auto& [from, to] : prefixes)
            if (name.starts_with(from)) {
                const std::string rest = name.substr(from.size());
                return std::string(to) + (to.starts_with("clip") ? clip_from_open_clip(rest) : rest);
            }
        if (name == "v_pred" || name == "ztsnr") return "mark." + name;  // of models that were trained so
        return "";
    }

    std::string diffusion(const std::string& plain) {
        if (has("cap_embedder.1.weight") || has(std::string(diffusion_prefix) + "cap_embedder.1.weight"))
            return "z_image." + z_image_from_diffusers(plain);
        if (has("conv_in.weight") && has("time_embedding.linear_1.weight"))
            return "unet." + unet_from_diffusers(plain, layers(), attending());
        return "unet." + plain;
    }

    bool is_llm() const {
        return has("model.embed_tokens.weight") || has("token_embd.weight") || has("embed_tokens.weight");
    }

    // Of a text encoder that is not called by its kind.
    std::string text_encoder(const std::string& name) {
        if (is_llm()) return of(name, Part::llm);
        if (clip_kind_.empty()) {
            clip_kind_ = "clip_l.";
            for (const auto& [tensor, info] : tensors_) {
                if (!tensor.ends_with("token_embedding.weight") || info->shape.size() != 2) continue;
                if (info->shape[1] == clip_g_width) clip_kind_ = "clip_g.";
                if (info->shape[1] == clip_h_width) clip_kind_ = "clip_h.";
            }
        }
        return clip(clip_kind_, name);
    }

    static std::string clip(const std::string& kind, const std::string& name) {
        const std::string plain =
            without(without(without(name, "cond_stage_model."), "transformer.text_model."), "text_model.");
        const bool wrapped = plain.starts_with("transformer.") && !plain.starts_with("transformer.resblocks.");
        return kind + clip_from_open_clip(wrapped ? plain.substr(12) : plain);
    }

    int layers() {
        if (layers_ < 0) layers_ = std::max(1, count_of(file_, "down_blocks.0.", "resnets.", "."));
        return layers_;
    }

    const std::set<int>& attending() {
        if (!attending_known_) {
            attending_known_ = true;
            for (const auto& [full, tensor] : tensors_) {
                std::string_view name = full;
                const auto level = take_number(name, "up_blocks.", ".");
                if (level && name.starts_with("attentions.")) attending_.insert(*level);
            }
        }
        return attending_;
    }

    const TensorFile& file_;
    std::map<std::string_view, const TensorInfo*> tensors_;
    std::string clip_kind_;
    int layers_ = -1, levels_ = -1;
    bool attending_known_ = false;
    std::set<int> attending_;
};

// The part of a tensor's outermost side that is the `number`-th of three.
TensorInfo third(const TensorInfo& whole, size_t number) {
    TensorInfo out = whole;
    out.shape[0] /= 3;
    out.bytes = whole.bytes.subspan(number * (whole.bytes.size() / 3), whole.bytes.size() / 3);
    return out;
}

}  // namespace

std::vector<NamedTensor> canonical_tensors(const TensorFile& file, Part part) {
    Canonical canonical(file);
    if (part == Part::any) part = canonical.guess();
    std::vector<NamedTensor> out;
    for (const TensorInfo& tensor : file.tensors) {
        std::string name = canonical.of(tensor.name, part);
        if (name.empty() || name.ends_with(".position_ids")) continue;
        const std::vector<std::string> parts = fused_parts(name);
        const bool whole_rows = tensor.shape.size() == 2 || dtype_block(tensor.type) == 1;
        if (parts.empty() || tensor.shape.empty() || tensor.shape[0] % 3 != 0 || !whole_rows) {
            out.push_back({std::move(name), tensor});
            continue;
        }
        for (size_t i = 0; i < parts.size(); ++i) out.push_back({parts[i], third(tensor, i)});
    }
    return out;
}

}  // namespace sdcpp
