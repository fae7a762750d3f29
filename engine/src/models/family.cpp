#include "models/family.h"

#include <cmath>

#include "base/error.h"
#include "models/clip.h"
#include "models/llm.h"
#include "models/taesd.h"
#include "models/unet.h"
#include "models/vae.h"
#include "models/z_image.h"

namespace sdcpp {
namespace {

template <typename Net>
std::unique_ptr<Denoiser> make(const ModelFiles& files) {
    return std::make_unique<Net>(files);
}

bool never(const ModelFiles&) { return false; }

bool marked_v(const ModelFiles& files) { return files.find("mark.v_pred") != nullptr; }

// Stable Diffusion 2's two UNets differ in nothing but their values; this bias spreads wide in the one that predicts v
// (a rule of thumb that loaders share).
bool spread_like_v(const ModelFiles& files) {
    const TensorInfo* bias = files.find("unet.output_blocks.11.1.transformer_blocks.0.norm1.bias");
    if (!bias || !dtype_is_numeric(bias->type) || bias->count() < 2) return false;
    std::vector<float> values(static_cast<size_t>(bias->count()));
    to_f32(bias->type, bias->bytes.data(), values.data(), bias->count());
    double sum = 0, squares = 0;
    for (const float value : values) {
        sum += value;
        squares += static_cast<double>(value) * value;
    }
    const auto count = static_cast<double>(values.size());
    return std::sqrt(squares / count - sum * sum / count / count) > 0.09;
}

using Defaults = std::map<std::string, std::string>;

std::string schedule_of(const ModelFiles& files) {  // few-step models are trained at trailing timesteps
    return files.config()["scheduler"].string_or("timestep_spacing", "") == "trailing" ? "simple" : "discrete";
}

Defaults sd1_defaults(const ModelFiles& files) { return {{"scheduler", schedule_of(files)}}; }

Defaults sd2_defaults(const ModelFiles& files) {
    const bool whole =
        files.find("clip_h.text_projection");  // diffusers' folders lack the last layer, which is not used
    return {{"clip_skip", whole ? "2" : "1"}, {"scheduler", schedule_of(files)}};
}

Defaults sdxl_defaults(const ModelFiles& files) {
    return {{"width", "1024"}, {"height", "1024"}, {"clip_skip", "2"}, {"scheduler", schedule_of(files)}};
}

Defaults z_image_defaults(const ModelFiles& files) {
    const bool turbo = files.config()["scheduler"].number_or("shift", 3) <= 4;  // else the base model
    return {{"width", "1024"},
            {"height", "1024"},
            {"clip_skip", "2"},
            {"sampler", "euler"},
            {"scheduler", "simple"},
            {"steps", turbo ? "8" : "50"},
            {"cfg_scale", turbo ? "1" : "5"}};
}

bool has_tensor(const ModelFiles& files, const char* name) { return files.find(name) != nullptr; }

int64_t context_of_unet(const ModelFiles& files) {
    for (const auto& [name, tensor] : files.tensors())
        if (name.starts_with("unet.") && name.ends_with("attn2.to_k.weight") && tensor.shape.size() == 2)
            return tensor.shape[1];
    return 0;
}

// Published noise levels of "Align Your Steps" (Sabour et al. 2024).
const std::vector<double> aligned_sd1 = {14.6146412293, 6.4745760956, 3.8636745985, 2.6946151520,
                                         1.8841921177,  1.3943805092, 0.9642583904, 0.6523686016,
                                         0.3977456272,  0.1515232662, 0.0291671582};
const std::vector<double> aligned_sdxl = {14.6146412293, 6.3184485287, 3.7681790315, 2.1811480769,
                                          1.3405244945,  0.8620721141, 0.5550693289, 0.3798540708,
                                          0.2332364134,  0.1114188177, 0.0291671582};

}  // namespace

const std::vector<Family>& families() {
    static const std::vector<Family> all = {
        {"z-image",
         "Z-Image",
         [](const ModelFiles& f) { return f.has_prefix("z_image."); },
         make<ZImage>,
         {"llm"},
         false,
         false,
         0.3611,
         0.1159,
         true,
         3.0,
         {},
         never,
         z_image_defaults},
        {"sdxl-refiner",
         "Stable Diffusion XL's refiner",
         [](const ModelFiles& f) { return UNet::sizes_of(f) == UNet::refiner_sizes; },
         make<UNet>,
         {"clip_g"},
         false,
         false,
         0.13025,
         0,
         false,
         1,
         aligned_sdxl,
         marked_v,
         sdxl_defaults},
        {"sdxl",
         "Stable Diffusion XL",
         [](const ModelFiles& f) { return has_tensor(f, "unet.label_emb.0.0.weight"); },
         make<UNet>,
         {"clip_l", "clip_g"},
         false,
         true,
         0.13025,
         0,
         false,
         1,
         aligned_sdxl,
         marked_v,
         sdxl_defaults},
        {"sd2",
         "Stable Diffusion 2.x",
         [](const ModelFiles& f) {
             return f.has_prefix("unet.") && (f.has_prefix("clip_h.") || context_of_unet(f) == 1024);
         },
         make<UNet>,
         {"clip_h"},
         true,
         false,
         0.18215,
         0,
         false,
         1,
         aligned_sd1,
         spread_like_v,
         sd2_defaults},
        {"sd1",
         "Stable Diffusion 1.x",
         [](const ModelFiles& f) { return f.has_prefix("unet."); },
         make<UNet>,
         {"clip_l"},
         true,
         false,
         0.18215,
         0,
         false,
         1,
         aligned_sd1,
         marked_v,
         sd1_defaults}};
    return all;
}

const Family& family_of(const ModelFiles& files) {
    for (const Family& family : families())
        if (family.fits(files)) return family;
    return families().back();
}

const std::vector<std::string>& text_encoder_names() {
    static const std::vector<std::string> names = {"clip_l", "clip_g", "clip_h", "llm"};
    return names;
}

namespace {

std::string titles() {
    std::string all;
    for (const Family& family : families()) all += (all.empty() ? "" : ", ") + family.title;
    return all;
}

}  // namespace

std::vector<NamedNetwork> make_networks(const ModelFiles& files) {
    std::vector<NamedNetwork> out;
    for (const std::string& name : text_encoder_names()) {
        if (!files.has_prefix(name + ".")) continue;
        if (name == "llm")
            out.push_back({name, std::make_unique<Llm>(files)});
        else
            out.push_back({name, std::make_unique<ClipText>(files, name)});
    }
    if (files.has_prefix("unet.") && !files.find("unet.input_blocks.0.0.weight"))
        fail(SDCPP_UNSUPPORTED_MODEL, "the diffusion model, which has a tensor ",
             files.tensors().lower_bound("unet.")->first.substr(5), ", is of no known family; known are ", titles());
    if (const Family& family = family_of(files); family.fits(files)) {
        auto denoiser = family.denoiser(files);
        const std::string name = denoiser->name();
        out.push_back({name, std::move(denoiser)});
    }
    if (files.has_prefix("vae.decoder.")) out.push_back({"vae.decoder", std::make_unique<VaeDecoder>(files)});
    if (files.has_prefix("vae.encoder.")) out.push_back({"vae.encoder", std::make_unique<VaeEncoder>(files)});
    for (const auto& [name, side] :
         {std::pair{"taesd.decoder", Taesd::Side::decoder}, {"taesd.encoder", Taesd::Side::encoder}})
        if (files.has_prefix(std::string(name) + ".")) out.push_back({name, std::make_unique<Taesd>(files, side)});
    if (out.empty())
        fail(SDCPP_UNSUPPORTED_MODEL, "none of the known networks was found in the files given; known are ", titles(),
             " as checkpoints, diffusers folders or single parts (diffusion model, VAE, text encoders, TAESD)");
    return out;
}

}  // namespace sdcpp
