// ESRGAN under the names of Real-ESRGAN; older ones are BSRGAN's, and the first ones' numbers.
#include "models/esrgan.h"

#include <charconv>

#include "families/component.h"

namespace sdcpp {
namespace {

int recognises(const FileNames& file) {
    const bool ends = file.has("conv_first.weight") && file.has("conv_last.weight");
    const bool numbered = file.has("model.0.weight") && file.has("model.1.sub.0.RDB1.conv1.0.weight");
    const bool named = file.has("body.0.rdb1.conv1.weight") || file.has("RRDB_trunk.0.RDB1.conv1.weight");
    return numbered || (ends && named) ? 3 : 0;
}

// The first files' numbers of layers behind the blocks: enlarging convolutions, then two more.
struct Numbers {
    std::vector<int> used;

    explicit Numbers(const FileNames& file) {
        for (int n = 2; n < 32; ++n)
            if (file.has("model." + std::to_string(n) + ".weight")) used.push_back(n);
    }
    std::string name(int number) const {
        for (size_t i = 0; i < used.size(); ++i) {
            if (used[i] != number) continue;
            if (i + 1 == used.size()) return "conv_last";
            return i + 2 == used.size() ? "conv_hr" : "conv_up" + std::to_string(i + 1);
        }
        return "";
    }
};

Renamer renamer(const FileNames& file) {
    return [numbers = Numbers(file)](const std::string& full) {
        std::string name = full;
        replace_start(name, {{"RRDB_trunk.", "body."},
                             {"model.1.sub.", "body."},
                             {"trunk_conv.", "conv_body."},
                             {"upconv", "conv_up"},
                             {"HRconv.", "conv_hr."},
                             {"model.0.", "conv_first."}});
        std::string_view rest = name;
        if (const auto block = take_number(rest, "body.", ".")) {
            if (rest == "weight" || rest == "bias") return "conv_body." + std::string(rest);
            std::string inner(rest);
            replace_first(inner, "RDB", "rdb");
            if (inner.ends_with(".0.weight") || inner.ends_with(".0.bias")) replace_first(inner, ".0.", ".");
            return "body." + std::to_string(*block) + "." + inner;
        }
        if (const auto number = take_number(rest, "model.", ".")) {
            const std::string layer = numbers.name(*number);
            return layer.empty() ? full : layer + "." + std::string(rest);
        }
        return name;
    };
}

}  // namespace

const Component esrgan = {
    .naming = {.name = "esrgan",
               .kind = "upscaler",
               .prefixes = {"params_ema.", "params."},
               .slots = {},
               .config = "upscaler",
               .recognises = recognises,
               .renamer = renamer,
               .networks = {{"esrgan."}}},
    .networks = {{"esrgan", "upscaler (ESRGAN)", Role::upscaler, "esrgan.", make_network<Esrgan>}},
    .public_prefix = "",
    .option = "upscaler",
    .flags = "--upscale-model",
    .help = "a network that makes pictures larger, such as RealESRGAN_x4plus",
};

}  // namespace sdcpp
