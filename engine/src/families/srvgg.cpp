// Real-ESRGAN's compact network: a plain sequence under one name.
#include "models/srvgg.h"

#include "families/component.h"

namespace sdcpp {
namespace {

int recognises(const FileNames& file) {
    const TensorInfo *first = file.find("body.0.weight"), *act = file.find("body.1.weight"),
                     *second = file.find("body.2.weight");
    const bool sequence = first && act && second && first->shape.size() == 4 && act->shape.size() == 1;
    return sequence && second->shape.size() == 4 ? 3 : 0;
}

}  // namespace

const Component srvgg = {
    .naming = {.name = "srvgg",
               .kind = "upscaler",
               .prefixes = {"params_ema.", "params."},
               .slots = {},
               .config = "upscaler",
               .recognises = recognises,
               .renamer = nullptr,
               .networks = {{"srvgg."}}},
    .networks = {{"srvgg", "upscaler (SRVGG)", Role::upscaler, "srvgg.", make_network<Srvgg>}},
    .public_prefix = "",
    .option = "upscaler",
    .flags = "--upscale-model",
    .help = "a network that makes pictures larger, such as RealESRGAN_x4plus",
};

}  // namespace sdcpp
