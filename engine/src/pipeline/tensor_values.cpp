#include "pipeline/tensor_values.h"

#include <algorithm>

#include "base/error.h"
#include "io/tensor_file.h"
#include "weights/weight_source.h"

namespace sdcpp {

Array tensor_values(const std::filesystem::path& path, const std::string& name) {
    const TensorFile file = open_tensor_file(path);
    const auto found = std::find_if(file.tensors.begin(), file.tensors.end(),
                                    [&](const TensorInfo& tensor) { return tensor.name == name; });
    if (found == file.tensors.end())
        fail(SDCPP_INVALID_ARGUMENT, path.filename().string(), " has no tensor '", name, "'");
    const int64_t count = found->count();
    if (count > int64_t{1} << 28)
        fail(SDCPP_INVALID_ARGUMENT, "the tensor '", name, "' has ", count,
             " values, which are too many to be read at once");
    std::vector<float> values(static_cast<size_t>(count));
    const auto mapped = file_of(file.files, found->bytes);
    if (count > 0) MappedSource(*found, *mapped).rows(0, count, values.data());
    return Array::of(name, found->shape, std::move(values));
}

}  // namespace sdcpp
