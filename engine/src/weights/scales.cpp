#include "weights/scales.h"

#include <algorithm>
#include <array>
#include <optional>
#include <unordered_map>

#include "base/error.h"

namespace sdcpp {
namespace {

constexpr std::string_view weight = ".weight";
constexpr std::array<std::string_view, 3> endings = {".scale_weight", ".weight_scale", ".weight_scale_inv"};
// Scales of inputs are for kernels that multiply in f8; the formats are told by the tensors' types.
constexpr std::array<std::string_view, 3> marks = {".scale_input", ".input_scale", ".comfy_quant"};
constexpr int64_t block_side = 128;

// The part of `name` before `ending`.
std::optional<std::string> stem(const std::string& name, std::string_view ending) {
    if (!name.ends_with(ending)) return std::nullopt;
    return name.substr(0, name.size() - ending.size());
}

int64_t blocks(int64_t side) { return (side + block_side - 1) / block_side; }

std::shared_ptr<const ScaleGrid> grid_of(const TensorInfo& of, const TensorInfo& scales) {
    const int64_t rows = of.shape.empty() ? 1 : of.shape.front(), count = scales.count();
    const int64_t columns = rows > 0 ? of.count() / rows : 0;
    const bool numbers = dtype_is_numeric(scales.type) && dtype_block(scales.type) == 1;
    ScaleGrid grid{.factors = {}, .columns = 1, .row_side = std::max<int64_t>(1, rows), .column_side = columns};
    std::vector<int64_t> shape = scales.shape;
    while (!shape.empty() && shape.back() == 1) shape.pop_back();
    if (shape == std::vector{rows}) {
        grid.row_side = 1;
    } else if (scales.shape == std::vector{blocks(rows), blocks(columns)}) {
        grid.columns = blocks(columns);
        grid.row_side = grid.column_side = block_side;
    } else if (count != 1) {
        grid.columns = 0;
    }
    if (!numbers || grid.columns == 0 || of.shape.empty() || columns == 0)
        fail(SDCPP_UNSUPPORTED_MODEL, "the factors ", scales.name, " do not fit to ", of.name,
             ": one, one a row, or one for 128 x 128 values are known");
    grid.factors.resize(static_cast<size_t>(count));
    to_f32(scales.type, scales.bytes.data(), grid.factors.data(), count);
    return std::make_shared<const ScaleGrid>(std::move(grid));
}

}  // namespace

void attach_scales(TensorFile& file) {
    std::unordered_map<std::string, const TensorInfo*> scales;  // by the name of what they belong to
    for (const TensorInfo& tensor : file.tensors)
        for (const std::string_view ending : endings)
            if (const auto of = stem(tensor.name, ending)) scales.emplace(*of + std::string(weight), &tensor);
    std::vector<TensorInfo> kept;
    for (const TensorInfo& tensor : file.tensors) {
        const auto ends = [&](std::string_view ending) { return tensor.name.ends_with(ending); };
        const bool companion = std::any_of(endings.begin(), endings.end(), ends);
        const size_t dot = tensor.name.rfind('.');
        const bool mark = std::any_of(marks.begin(), marks.end(), ends) ||
                          tensor.name.substr(dot == std::string::npos ? 0 : dot + 1) == "scaled_fp8";
        if (companion || mark) continue;
        TensorInfo& own = kept.emplace_back(tensor);
        if (const auto found = scales.find(tensor.name); found != scales.end() && dtype_is_numeric(tensor.type))
            own.scales = grid_of(tensor, *found->second);
    }
    file.tensors = std::move(kept);
}

}  // namespace sdcpp
