#include "families/strangers.h"

#include <algorithm>
#include <array>
#include <optional>
#include <sstream>
#include <unordered_set>
#include <vector>

#include "base/error.h"
#include "families/family.h"
#include "weights/packed/packed_weights.h"

namespace sdcpp {
namespace {

// Tells are names of tensors: all of those between two "|". "*" at an end stands for anything; other names may stand
// behind a denoiser's prefix. "=" before a name takes it to the letter, "!" says that there is none.
struct Stranger {
    std::string_view title;   // the words behind "FILE is"
    std::string_view advice;  // the words behind "which"
    std::string_view tells;
    std::string_view option{};  // takes the file beside a model
};

constexpr std::string_view later = "is not supported yet";
constexpr std::string_view not_a_model = "is no model by itself and cannot be used yet";
constexpr std::string_view lora_advice = "is no model by itself";
constexpr std::string_view other_numbers =
    "cannot be read; take the same model in bf16, f16 or f8, or as GGUF (q8_0, q4_K …)";
constexpr std::string_view wrong_pictures =
    "is not supported yet: with the usual levels of noise pictures would be wrong";

// The first row that fits counts: add-ons and number formats before families, whose names they repeat.
constexpr Stranger strangers[] = {
    // add-ons
    {"a LoRA", lora_advice,
     "lora_unet_* | lora_te* | lora_transformer_* | lycoris_* | *.lora_down.weight | *.lora_A.weight | "
     "*.lora.down.weight | *.lora_A.default.weight | *_lora.down.weight | *.lora_linear_layer.down.weight | "
     "*.hada_w1_a | "
     "*.lokr_w1 | *.lokr_w1_a | *.oft_blocks | *.a1.weight *.b1.weight | *.qkv_lora1.down.weight | "
     "*.proj_lora1.down.weight",
     "loras"},
    {"a ControlNet", lora_advice,
     "control_model.* | controlnet_cond_embedding.conv_in.weight | input_hint_block.0.weight | "
     "controlnet_blocks.0.weight | controlnet_x_embedder.weight",
     "controls"},
    {"an IP-Adapter", lora_advice, "ip_adapter.* | image_proj.* | image_proj_model.proj.weight", "ip_adapters"},
    {"a T2I-Adapter", lora_advice,
     "body.0.block1.weight conv_in.weight | body.0.resnets.0.block1.weight | adapter.body.*", "controls"},
    {"a Redux adapter", not_a_model, "redux_up.weight redux_down.weight"},
    {"a motion module (AnimateDiff)", not_a_model, "down_blocks.0.motion_modules.* | mid_block.motion_modules.*"},
    {"an embedding (textual inversion)", lora_advice, "=emb_params | =clip_g | =clip_l | =*", "embeddings"},
    {"an upscaler of another kind than ESRGAN and SRVGG", not_a_model,
     "conv_first.weight conv_last.weight !body.0.rdb1.conv1.weight !RRDB_trunk.0.RDB1.conv1.weight | "
     "layers.0.residual_group.*"},
    // number formats
    {"quantized by SVDQuant (Nunchaku)", other_numbers, "*.qweight *.wscales"},
    {"quantized by torchao", other_numbers, "*weight_qdata | *weight:qdata"},
    {"quantized by optimum-quanto", other_numbers, "*.weight._data"},
    {"quantized by GPTQ or AWQ", other_numbers, "*.qweight *.qzeros | *.qweight *.scales"},
    // other mathematics
    {"made for EDM's levels of noise (edm_mean, edm_std), as Playground 2.5 is, which", wrong_pictures,
     "edm_mean | edm_std"},
    {"made for EDM's levels of noise (edm_vpred), as CosXL is, which", wrong_pictures, "edm_vpred.sigma_max"},
    {"a UNet that takes the guidance as an input (time_embedding.cond_proj), as LCM's do, which",
     "is not supported yet: without it pictures would be wrong",
     "time_embedding.cond_proj.weight | time_embed.cond_proj.weight"},
    // other families
    {"Chroma Radiance", later, "nerf_blocks.0.norm.scale"},
    {"Wan", later,
     "head.modulation blocks.0.cross_attn.norm_k.weight | scale_shift_table "
     "condition_embedder.time_embedder.linear_1.weight"},
    {"OmniGen2", later, "ref_image_patch_embedder.weight"},
    {"Lumina 2", later,
     "cap_embedder.0.weight !x_pad_token | time_caption_embed.caption_embedder.0.weight !x_pad_token"},
    {"HiDream", later, "caption_projection.0.linear.weight"},
    {"AuraFlow", later,
     "double_layers.0.attn.w1q.weight | joint_transformer_blocks.0.attn.add_q_proj.weight register_tokens"},
    {"LTX-Video", later, "patchify_proj.weight | scale_shift_table proj_in.weight caption_projection.linear_1.weight"},
    {"HunyuanVideo or HunyuanImage", later,
     "txt_in.individual_token_refiner.blocks.0.norm1.weight | "
     "context_embedder.token_refiner.refiner_blocks.0.norm1.weight"},
    {"Hunyuan-DiT", later, "mlp_t5.0.weight"},
    {"PixArt", later, "t_block.1.weight y_embedder.y_embedding | adaln_single.linear.weight pos_embed.*"},
    {"Sana", later, "caption_norm.weight patch_embed.proj.weight | attention_y_norm.weight"},
    {"CogVideoX", later,
     "patch_embed.text_proj.weight transformer_blocks.0.norm2.linear.weight | mixins.patch_embed.*"},
    {"CogView4", later, "patch_embed.text_proj.weight"},
    {"Mochi", later, "t5_y_embedder.to_q.weight | time_embed.pooler.to_q.weight"},
    {"Stable Cascade", later, "clip_txt_mapper.weight | clip_txt_pooled_mapper.weight"},
    {"Stable Video Diffusion", later,
     "input_blocks.1.0.time_stack.emb_layers.1.weight | "
     "down_blocks.0.attentions.0.temporal_transformer_blocks.*"},
    {"Kolors", later, "encoder_hid_proj.weight add_embedding.linear_1.weight"},
    {"Kandinsky 2", later, "encoder_hid_proj.image_embeds.weight"},
    // their autoencoders
    {"the VAE of Wan 2.2", later,
     "decoder.upsamples.0.upsamples.0.residual.0.gamma | decoder.up_blocks.0.upsampler.resample.1.weight"},
    {"Sana's VAE (DC-AE)", later, "encoder.down_blocks.0.0.*"},
};

constexpr std::array<std::string_view, 5> prefixes = {"", "model.diffusion_model.", "diffusion_model.", "transformer.",
                                                      "net."};

class Names {
  public:
    explicit Names(const TensorFile& file) : file_(file) {
        for (const TensorInfo& tensor : file.tensors) names_.insert(tensor.name);
    }
    bool show(const Stranger& stranger) const {
        std::istringstream words{std::string(stranger.tells)};
        bool all = true;
        for (std::string word; words >> word;) {
            if (word == "|") {
                if (all) return true;
                all = true;
            } else {
                all = all && shows(word);
            }
        }
        return all;
    }

  private:
    bool shows(std::string_view name) const {
        if (name.starts_with('!')) return !shows(name.substr(1));
        if (name.starts_with('=')) return names_.contains(std::string(name.substr(1)));
        const bool ending = name.starts_with('*'), beginning = name.ends_with('*');
        const std::string_view text = name.substr(ending, name.size() - ending - beginning);
        return std::any_of(prefixes.begin(), prefixes.end(), [&](std::string_view prefix) {
            if (!ending && !beginning) return names_.contains(std::string(prefix) + std::string(text));
            return std::any_of(file_.tensors.begin(), file_.tensors.end(), [&](const TensorInfo& tensor) {
                const std::string_view whole = tensor.name;
                if (ending) return whole.ends_with(text);
                return whole.starts_with(prefix) && whole.substr(prefix.size()).starts_with(text);
            });
        });
    }

    const TensorFile& file_;
    std::unordered_set<std::string> names_;
};

struct Found {
    std::string title, advice;
    std::string_view option{};
};

std::optional<Found> stranger_in(const TensorFile& file) {
    const Names names(file);
    for (const Stranger& stranger : strangers)
        if (names.show(stranger))
            return Found{std::string(stranger.title), std::string(stranger.advice), stranger.option};
    if (const std::string format = unreadable_format(file); !format.empty())
        return Found{"quantized as " + format, std::string(other_numbers)};
    return std::nullopt;
}

// A shard's number and how many there are: "model-00001-of-00003.safetensors".
struct Shard {
    std::string stem;  // "model"
    int count = 0;
};

std::optional<Shard> shard_of(const std::string& name) {
    constexpr size_t digits = 5;
    const size_t of = name.rfind("-of-");
    if (of == std::string::npos || of < digits + 1 || name.size() < of + 4 + digits || name[of - digits - 1] != '-')
        return std::nullopt;
    const std::string all = name.substr(of + 4, digits);
    const auto number = [](const std::string& text) {
        return std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; });
    };
    if (!number(all) || !number(name.substr(of - digits, digits))) return std::nullopt;
    return Shard{name.substr(0, of - digits - 1), std::stoi(all)};
}

void refuse_shard(const ModelPath& path) {
    const std::string name = path.path.filename().string();
    const auto shard = shard_of(name);
    if (!shard || shard->count < 2) return;
    if (name.ends_with(".gguf"))
        fail(SDCPP_UNSUPPORTED_MODEL, name, " is one of ", shard->count,
             " shards; put them together with llama.cpp's gguf-split --merge");
    std::string index = shard->stem + path.path.extension().string() + ".index.json";
    std::error_code problem;
    for (std::filesystem::directory_iterator at(path.path.parent_path(), problem), end; !problem && at != end;
         at.increment(problem))
        if (const std::string other = at->path().filename().string();
            other.find(".index.") != std::string::npos && other.ends_with(".json"))
            index = other;
    fail(SDCPP_UNSUPPORTED_MODEL, name, " is one of ", shard->count, " shards; give ", index,
         ", which lies beside them and lists them all");
}

}  // namespace

std::string strange_title(const TensorFile& file) {
    const auto found = stranger_in(file);
    return found ? found->title.substr(0, found->title.find(", ")) : "";
}

void refuse_strangers(const TensorFile& file, const ModelPath& path) {
    refuse_shard(path);
    const auto found = stranger_in(file);
    if (!found) return;
    const std::string joint = found->title.ends_with(" which") ? " " : ", which ";
    const std::string folder = path.role.slot.empty() ? "" : path.role.slot + "/";
    const std::string name = folder + path.path.filename().string();
    if (!found->option.empty())
        fail(SDCPP_UNSUPPORTED_MODEL, name, " is ", found->title, joint, found->advice, "; give it with ",
             OptionName{found->option, "…"}, " beside one");
    fail(SDCPP_UNSUPPORTED_MODEL, name, " is ", found->title, joint, found->advice);
}

bool is_leftover(std::string_view name) {
    // averages of weights, losses of training, estimators of depth, other halves of text encoders, layers that join or
    // part frames
    static constexpr std::array<std::string_view, 21> starts = {
        "depth_model.",  "model_ema.",     "loss.",         "denoiser.",      "optimizer",     "vision_model.",
        "visual.",       "visual_proj",    "t5.decoder.",   "t5.lm_head.",    "llm.lm_head.",  "llm.visual.",
        "llm.vision_",   "clip_l.vision_", "clip_l.visual", "clip_g.vision_", "clip_g.visual", "clip_h.vision_",
        "clip_h.visual", "vae.loss.",      "vae.model_ema."};
    static constexpr std::array<std::string_view, 7> endings = {
        "position_ids",           "logit_scale",         "norm_final.weight", "text_projection",
        "text_projection.weight", "num_batches_tracked", "spiece_model"};
    // schedules, and marks that the engine reads
    static constexpr std::array<std::string_view, 16> alone = {"betas",
                                                               "alphas_cumprod",
                                                               "alphas_cumprod_prev",
                                                               "sqrt_alphas_cumprod",
                                                               "sqrt_one_minus_alphas_cumprod",
                                                               "log_one_minus_alphas_cumprod",
                                                               "sqrt_recip_alphas_cumprod",
                                                               "sqrt_recipm1_alphas_cumprod",
                                                               "posterior_variance",
                                                               "posterior_log_variance_clipped",
                                                               "posterior_mean_coef1",
                                                               "posterior_mean_coef2",
                                                               "logvar",
                                                               "scale_factor",
                                                               "v_pred",
                                                               "ztsnr"};
    if (name.find(".time_conv.") != std::string_view::npos) return true;
    return std::any_of(starts.begin(), starts.end(), [&](auto start) { return name.starts_with(start); }) ||
           std::any_of(endings.begin(), endings.end(), [&](auto end) { return name.ends_with(end); }) ||
           std::find(alone.begin(), alone.end(), name) != alone.end();
}

}  // namespace sdcpp
