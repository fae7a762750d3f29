// CLIP's vision models under transformers' names: the eyes of adapters that follow a picture.
#include "models/clip_vision.h"

#include "families/component.h"

namespace sdcpp {
namespace {

int recognises(const FileNames& file) { return file.has("vision_model.embeddings.class_embedding") ? 1 : 0; }

// Whole CLIP models hold a text model, too.
Renamer renamer(const FileNames&) {
    return [](const std::string& name) {
        const bool own = name.starts_with("vision_model.") || name.starts_with("visual_projection.");
        return own && !name.ends_with(".position_ids") ? name : std::string();
    };
}

}  // namespace

const Component clip_vision = {
    .naming = {.name = "clip_vision",
               .kind = "clip_vision",
               .prefixes = {"clip_vision."},
               .slots = {"image_encoder"},
               .config = "clip_vision",
               .recognises = recognises,
               .renamer = renamer,
               .networks = {{"clip_vision."}}},
    .networks = {{"clip_vision", "CLIP vision encoder", Role::vision_encoder, "clip_vision.",
                  make_network<ClipVision>}},
    .public_prefix = "clip_vision.",
    .option = "clip_vision",
    .flags = "--clip_vision",
    .help = "the CLIP vision encoder of IP-Adapters, such as the image_encoder folder beside them",
};

}  // namespace sdcpp
