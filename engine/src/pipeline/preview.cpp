#include "pipeline/preview.h"

namespace sdcpp {

const std::vector<std::string>& preview_names() {
    static const std::vector<std::string> names = {"none", "proj", "tae", "vae"};
    return names;
}

void require_preview(Model& model, const PreviewOptions& options) {
    if (options.method == "tae") model.need(Role::tiny_decoder);
    if (options.method == "vae") model.need(Role::decoder);
}

Pictures preview_pictures(Model& model, const PreviewOptions& options, DecodeOptions decoding, const Floats& latents,
                          int batch, int height, int width) {
    const LatentSpace& space = model.facts.latent;
    const bool decodes = options.method != "proj";
    const int factor = decodes ? space.factor : 1;
    Pictures out{{}, height * factor, width * factor};
    decoding.taesd = options.method == "tae";
    const auto each = latents.size() / static_cast<size_t>(batch);
    for (size_t first = 0; first < latents.size(); first += each) {
        const std::span<const float> latent = std::span(latents).subspan(first, each);
        const std::vector<uint8_t> one = decodes ? to_bytes(decode(model, decoding, latent, height, width))
                                                 : space.rough_picture(latent, int64_t{height} * width);
        out.pixels.insert(out.pixels.end(), one.begin(), one.end());
    }
    return out;
}

}  // namespace sdcpp
