// ComfyUI's formats, which marks tell, and nvfp4 of ModelOpt and those that follow it.
#include <algorithm>
#include <cmath>

#include "weights/packed/formats.h"

namespace sdcpp {
namespace {

constexpr DType i8 = from_ggml(GGML_TYPE_I8);

void add_rotation(const PackedLayer& layer, Packing& packing) {
    const int64_t group = layer.whole("convrot_groupsize", 256);
    int64_t power = 4;
    while (power < group) power *= 4;
    if (power != group) layer.fail_here("its ConvRot group of ", group, " is no power of 4");
    if (packing.columns % group != 0)
        layer.fail_here("its rows of ", packing.columns, " values are no whole ConvRot groups of ", group);
    packing.rotation = group;
}

Packing int8_tensorwise(const PackedLayer& layer) {
    Packing out = packed_matrix(layer, {i8}, 8);
    add_factors(layer, out, layer.get(layer.beside(".weight_scale")), 128);
    out.format = "int8";
    if (layer.facts.boolean_or("convrot", false)) {
        add_rotation(layer, out);
        out.format = "int8 with ConvRot";
    }
    return out;
}

// Values of e2m1: a sign, two bits of exponent, one of fraction.
const std::vector<float> e2m1 = {0, 0.5f, 1, 1.5f, 2, 3, 4, 6, -0.0f, -0.5f, -1, -1.5f, -2, -3, -4, -6};

Packing nvfp4(const PackedLayer& layer, bool comfy) {
    Packing out = packed_matrix(layer, {DType::u8, i8}, 4);
    out.high_first = comfy;
    out.levels = e2m1;
    out.padding = comfy ? 16 : 1;
    out.factor = layer.numbers(layer.get(layer.beside(".weight_scale_2")), 1).front();
    out.blocks = byte_blocks(layer, out, layer.get(layer.beside(".weight_scale")), 16, e4m3_numbers(), comfy);
    out.largest = std::abs(out.factor) * 448 * 6;
    return out;
}
Packing nvfp4_tiled(const PackedLayer& layer) { return nvfp4(layer, true); }

Packing mxfp8(const PackedLayer& layer) {
    Packing out = packed_matrix(layer, {DType::f8_e4m3}, 8);
    out.levels = e4m3_numbers();
    out.padding = 32;
    out.blocks = byte_blocks(layer, out, layer.get(layer.beside(".weight_scale")), 32, e8m0_numbers(), true);
    out.largest = unknown_size;
    return out;
}

Packing convrot_w4a4(const PackedLayer& layer) {
    Packing out = packed_matrix(layer, {i8, DType::u8}, 4);
    for (int code = 0; code < 16; ++code) out.levels.push_back(static_cast<float>(code < 8 ? code : code - 16));
    const TensorInfo& scales = layer.get(layer.beside(".weight_scale"));
    out.row_factors = layer.numbers(scales, out.rows);
    out.largest = largest_of(out.row_factors) * 8;
    add_rotation(layer, out);
    out.format = "w4a4";
    return out;
}

// Codes of four or six bits that stand for int8 values: a level times a factor of its block, rounded.
Packing w4a8(const PackedLayer& layer) {
    const TensorInfo& blocks = layer.get(layer.beside(".weight_s_rel"));
    const int64_t side = layer.whole("group_size", 16);
    if (blocks.shape.size() != 2 || layer.tensor.shape.size() != 2 || blocks.count() == 0)
        layer.fail_here(blocks.name, " or the weight is no matrix");
    const int64_t columns = blocks.shape[1] * side, bytes = layer.tensor.shape[1];
    const int bits = columns == 2 * bytes ? 4 : 6;
    if (columns * bits != bytes * 8 || columns == 0 || columns % 16 != 0)
        layer.fail_here("rows of ", bytes, " bytes do not hold ", columns, " values of 4 or 6 bits");
    Packing out = packed_matrix(layer, {i8, DType::u8}, bits);
    if (blocks.shape[0] != out.rows) layer.fail_here(blocks.name, " has ", blocks.shape[0], " rows");
    if (layer.find(layer.beside(".weight_correction")))
        fail(SDCPP_UNSUPPORTED_MODEL, layer.tensor.name, " is packed as ", layer.format,
             " with offsets (weight_correction), which cannot be read; take a pack without them, or q8_0 as GGUF");
    if (const TensorInfo* codebook = layer.find(layer.beside(".weight_codebook"))) {
        if (bits == 6) layer.fail_here("has a codebook with codes of 6 bits");
        out.levels = layer.numbers(*codebook, 16);
    } else {
        for (int code = 0; code < 1 << bits; ++code) out.levels.push_back(static_cast<float>(code - (1 << (bits - 1))));
    }
    const bool f8 = blocks.type == DType::f8_e4m3;
    if (!f8 && blocks.type != from_ggml(GGML_TYPE_F32))
        layer.fail_here(blocks.name, " has the type ", dtype_name(blocks.type));
    out.blocks = BlockFactors{.name = blocks.name,
                              .bytes = blocks.bytes,
                              .type = blocks.type,
                              .table = f8 ? e4m3_numbers() : std::vector<float>{},
                              .side = side};
    out.whole_numbers = true;
    out.row_factors = layer.numbers(layer.get(layer.beside(".weight_s_channel")), out.rows);
    out.largest = 127 * largest_of(out.row_factors);
    add_rotation(layer, out);
    out.format = bits == 4 ? "w4a8" : "w6a8";
    return out;
}

constexpr PackedFormat formats[] = {
    {"float8_e4m3fn", nullptr}, {"float8_e5m2", nullptr}, {"int8_tensorwise", int8_tensorwise},
    {"nvfp4", nvfp4_tiled},     {"mxfp8", mxfp8},         {"convrot_w4a4", convrot_w4a4},
    {"asym_w4a8_int8", w4a8},
};

}  // namespace

const PackedFormat* packed_format(std::string_view name) {
    const auto found =
        std::find_if(std::begin(formats), std::end(formats), [&](const PackedFormat& one) { return one.name == name; });
    return found == std::end(formats) ? nullptr : found;
}

Packing plain_nvfp4(const PackedLayer& layer) { return nvfp4(layer, false); }

}  // namespace sdcpp
