// TAESD under the numbering of diffusers' AutoencoderTiny; the original decoder counts its clamp as layer 0.
#include "models/taesd.h"

#include "families/component.h"

namespace sdcpp {
namespace {

int recognises(const FileNames& file) {
    return file.has("decoder.layers.0.weight") + file.has("decoder.1.weight") + file.has("3.conv.0.weight");
}

Renamer renamer(const FileNames& file) {
    const bool decoder_alone = file.has("1.weight") && !file.has("0.weight");
    const bool counts_clamp = file.has("decoder.1.weight") || file.has("1.weight");
    return [=](const std::string& full) {
        std::string side = decoder_alone ? "decoder." : "encoder.";
        std::string_view rest = full;
        for (const std::string_view known : {"encoder.", "decoder."}) {
            if (!rest.starts_with(known)) continue;
            side = known;
            rest.remove_prefix(known.size());
        }
        if (rest.starts_with("layers.")) return side + std::string(rest.substr(7));
        if (std::string_view after = rest; side == "decoder." && counts_clamp)
            if (const auto n = take_number(after, "", "."))
                return side + std::to_string(*n - 1) + "." + std::string(after);
        return side + std::string(rest);
    };
}

std::unique_ptr<Network> decoder(const ModelFiles& files) {
    return std::make_unique<Taesd>(files, Taesd::Side::decoder);
}

std::unique_ptr<Network> encoder(const ModelFiles& files) {
    return std::make_unique<Taesd>(files, Taesd::Side::encoder);
}

}  // namespace

const Component taesd = {
    .naming = {.name = "taesd",
               .kind = "taesd",
               .prefixes = {"taesd."},
               .slots = {},
               .config = "taesd",
               .recognises = recognises,
               .renamer = renamer,
               .networks = {{"taesd.decoder."}, {"taesd.encoder."}}},
    .networks = {{"taesd.decoder", "TAESD decoder", Role::tiny_decoder, "taesd.decoder.", decoder},
                 {"taesd.encoder", "TAESD encoder", Role::tiny_encoder, "taesd.encoder.", encoder}},
    .public_prefix = "taesd.",
    .option = "taesd",
    .flags = "--taesd",
    .help = "decode with this tiny autoencoder",
};

}  // namespace sdcpp
