// FLUX.1 (Black Forest Labs 2024): dev, which takes a scale of guidance, and schnell, distilled to four steps.
#include "families/family.h"

namespace sdcpp {
namespace {

bool is_dev(const ModelFiles& files) { return files.has_prefix("flux.guidance_in."); }

Defaults defaults(const ModelFiles& files) {
    return {{"width", "1024"},       {"height", "1024"}, {"sampler", "euler"},
            {"scheduler", "simple"}, {"cfg_scale", "1"}, {"steps", is_dev(files) ? "20" : "4"},
            {"guidance", "3.5"},     {"clip_skip", "1"}};
}

// Kontext has dev's layers, and follows a picture. A diffusers folder tells, else the file's name does.
std::optional<References> references(const ModelFiles& files) {
    const std::string pipeline = files.config()["pipeline"].string_or("_class_name", "");
    if (pipeline.find("Kontext") == std::string::npos && !denoiser_is_named(files, flux_1, "kontext"))
        return std::nullopt;
    References out;
    for (const std::array<int64_t, 2> size : {std::array<int64_t, 2>{672, 1568},
                                              {688, 1504},
                                              {720, 1456},
                                              {752, 1392},
                                              {800, 1328},
                                              {832, 1248},
                                              {880, 1184},
                                              {944, 1104}}) {
        out.sizes.push_back(size);
        out.sizes.push_back({size[1], size[0]});
    }
    out.sizes.push_back({1024, 1024});
    return out;
}

// dev moves its levels of noise by the picture's size, schnell does not.
FlowShift shift(const ModelFiles& files) { return {.fixed = 1, .dynamic = is_dev(files)}; }

}  // namespace

const Family flux_1 = {
    .name = "flux.1",
    .title = "FLUX.1",
    .recognises = [](const ModelFiles& files) { return files.has_prefix("flux.") ? 1 : 0; },
    .denoiser = "flux",
    .text = {.context = {{{.encoder = "t5", .layers_off = {0}, .normed = true}}},
             .pooled = {{.encoder = "clip_l", .projected = false}},
             .lengths = {{"t5", [](const ModelFiles& files) { return is_dev(files) ? 512 : 256; }}}},
    .latent = latents::flux(),
    .prediction = {.flow = true, .flow_shift = shift},
    .defaults = defaults,
    .references = references,
};

}  // namespace sdcpp
