// Formats of packed weights: functions from a layer's tensors to what its codes stand for.
#pragma once

#include <string_view>

#include "weights/packed/packed_layer.h"

namespace sdcpp {

// A format of ComfyUI, by its name in marks.
struct PackedFormat {
    std::string_view name;
    Packing (*packing)(const PackedLayer& layer);  // null: scaled f8, see weights/scales.h
};
// Null if the name is none that can be read.
const PackedFormat* packed_format(std::string_view name);

// nvfp4 with scales in rows and the first of two codes in the low half (ModelOpt, Black Forest Labs, diffusers).
Packing plain_nvfp4(const PackedLayer& layer);

// Four bits: 16 numbers, each times a factor of its block of the weight written as one row. Factors may be packed, too.
// Puts the true shape on the layer's tensor.
Packing bitsandbytes_4(const PackedLayer& layer);
Packing bitsandbytes_8(const PackedLayer& layer);

}  // namespace sdcpp
