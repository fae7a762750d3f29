// libFuzzer target: whatever the bytes, a reader returns a file whose tensors lie inside it, or throws an Error.
#include <cstddef>
#include <cstdint>

#include "base/error.h"
#include "families/component.h"
#include "families/strangers.h"
#include "io/json.h"
#include "io/tensor_file.h"
#include "weights/names.h"
#include "weights/packed/packed_source.h"
#include "weights/packed/packed_weights.h"
#include "weights/scales.h"
#include "weights/weight_source.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    using namespace sdcpp;
    const auto* first = reinterpret_cast<const std::byte*>(data);
    try {
        const auto file = std::make_shared<const MappedFile>("fuzz", std::vector<std::byte>(first, first + size));
        const TensorFile read = read_tensor_file(file);
        for (const TensorInfo& tensor : read.tensors) {
            volatile std::byte sink{};
            if (!tensor.bytes.empty()) sink = tensor.bytes.back();
            (void)sink;
        }
        if (strange_title(read).empty()) {
            TensorFile scaled = read;
            TensorFile* const files[] = {&scaled};
            (void)attach_packings(files, namings());
            attach_scales(files, namings());
            for (const NamedTensor& named : canonical_tensors(scaled, {}, namings())) {
                const TensorInfo& tensor = named.tensor;
                const int64_t count = tensor.count();
                if (count == 0 || count > 1 << 16) continue;
                std::vector<float> values(static_cast<size_t>(count));
                if (tensor.packing) PackedSource(tensor, *file, *file).rows(0, count, values.data());
                if (!tensor.scales) continue;
                const ScaledSource source(std::make_shared<MappedSource>(tensor, *file), tensor.scales,
                                          count / tensor.shape.front(), tensor.first_row);
                source.rows(0, count, values.data());
            }
        }
        for (const char* part : {"", "diffusion_model", "vae", "text_encoder", "taesd", "llm"})
            (void)canonical_tensors(read, {part, ""}, namings());
    } catch (const Error&) {
    }
    try {
        (void)Json::parse({reinterpret_cast<const char*>(data), size});
    } catch (const Error&) {
    }
    return 0;
}
