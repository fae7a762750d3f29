#include "weights/scales.h"

#include <algorithm>
#include <array>
#include <optional>
#include <unordered_map>
#include <unordered_set>

#include "base/error.h"

namespace sdcpp {
namespace {

constexpr std::string_view weight = ".weight";
constexpr std::array<std::string_view, 3> endings = {".scale_weight", ".weight_scale", ".weight_scale_inv"};
// Scales of inputs are for kernels that multiply in f8; the formats are told by the tensors' types.
constexpr std::array<std::string_view, 3> marks = {".scale_input", ".input_scale", ".comfy_quant"};
// Before the names of a diffusion model or a text encoder in files of one component.
constexpr std::array<std::string_view, 4> other_prefixes = {"diffusion_model.", "model.", "transformer.",
                                                            "text_model."};
constexpr int64_t block_side = 128;

// The part of `name` before `ending`.
std::optional<std::string> stem(const std::string& name, std::string_view ending) {
    if (!name.ends_with(ending)) return std::nullopt;
    return name.substr(0, name.size() - ending.size());
}

// The weight that factors belong to; nothing if `name` is no factors'.
std::optional<std::string> belongs_to(const std::string& name) {
    for (const std::string_view ending : endings)
        if (const auto of = stem(name, ending)) return *of + std::string(weight);
    return std::nullopt;
}

bool is_mark(const std::string& name) {
    const size_t dot = name.rfind('.');
    return name.substr(dot == std::string::npos ? 0 : dot + 1) == "scaled_fp8" ||
           name.find(".comfy_attention.") != std::string::npos ||
           std::any_of(marks.begin(), marks.end(), [&](std::string_view ending) { return name.ends_with(ending); });
}

bool is_f8(const TensorInfo& tensor) {
    return (tensor.type == DType::f8_e4m3 || tensor.type == DType::f8_e5m2) && tensor.shape.size() > 1 &&
           std::string_view(tensor.name).ends_with(weight);
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
             ": one, one a row, or one for 128 x 128 values are known",
             scales.type == DType::u8 ? ", and mxfp8 if it is marked (comfy_quant, _quantization_metadata)" : "");
    grid.factors.resize(static_cast<size_t>(count));
    to_f32(scales.type, scales.bytes.data(), grid.factors.data(), count);
    return std::make_shared<const ScaleGrid>(std::move(grid));
}

}  // namespace

std::string_view without_prefix(std::string_view name, const Namings& namings) {
    size_t longest = 0;
    const auto look = [&](std::string_view prefix) {
        if (name.starts_with(prefix)) longest = std::max(longest, prefix.size());
    };
    for (const std::string_view prefix : other_prefixes) look(prefix);
    for (const Naming* naming : namings)
        for (const std::string_view prefix : naming->prefixes) look(prefix);
    return name.substr(longest);
}

void attach_scales(std::span<TensorFile* const> files, const Namings& namings) {
    std::unordered_map<std::string, const TensorInfo*> scales;  // by the name of what they belong to
    std::unordered_set<std::string> weights;
    std::unordered_map<std::string_view, int> alike;  // f8 weights by their names without prefixes
    for (const TensorFile* file : files)
        for (const TensorInfo& tensor : file->tensors) {
            if (const auto of = belongs_to(tensor.name)) scales.emplace(*of, &tensor);
            weights.insert(tensor.name);
            if (is_f8(tensor)) ++alike[without_prefix(tensor.name, namings)];
        }
    std::unordered_map<std::string_view, const TensorInfo*> strays;  // by the names of weights without prefixes
    for (const auto& [of, tensor] : scales)
        if (!weights.contains(of)) strays.emplace(without_prefix(of, namings), tensor);
    std::unordered_set<const TensorInfo*> used;
    const auto factors_of = [&](const TensorInfo& tensor) -> const TensorInfo* {
        if (!dtype_is_numeric(tensor.type)) return nullptr;
        if (const auto found = scales.find(tensor.name); found != scales.end()) return found->second;
        const std::string_view plain = without_prefix(tensor.name, namings);
        const auto stray = strays.find(plain);
        return stray != strays.end() && is_f8(tensor) && alike[plain] == 1 ? stray->second : nullptr;
    };
    for (TensorFile* file : files)
        for (TensorInfo& tensor : file->tensors) {
            const TensorInfo* factors = factors_of(tensor);
            if (!factors) continue;
            tensor.scales = grid_of(tensor, *factors);
            used.insert(factors);
        }
    for (TensorFile* file : files) {
        std::vector<TensorInfo> kept;
        for (const TensorInfo& tensor : file->tensors) {
            const auto of = belongs_to(tensor.name);
            const bool needed = of ? !used.contains(&tensor) && !weights.contains(*of) : !is_mark(tensor.name);
            if (needed) kept.push_back(tensor);
        }
        file->tensors = std::move(kept);
    }
}

void require_scales(std::span<TensorFile* const> files, const std::set<std::string>& marked) {
    const TensorInfo *stray = nullptr, *bare = nullptr;
    for (const TensorFile* file : files)
        for (const TensorInfo& tensor : file->tensors) {
            if (!stray && belongs_to(tensor.name)) stray = &tensor;
            if (!bare && is_f8(tensor) && !tensor.scales) bare = &tensor;
        }
    if (stray && bare)
        fail(SDCPP_UNSUPPORTED_MODEL, "this is a file of scaled f8 weights, but the factors of ", bare->name,
             " are missing, and ", stray->name,
             " belongs to no weight; take a file whose factors are named as its weights are");
    for (const TensorFile* file : files)
        for (const TensorInfo& tensor : file->tensors)
            if (is_f8(tensor) && !tensor.scales && marked.contains(tensor.name))
                fail(SDCPP_BAD_FILE, tensor.name, " is marked as scaled f8, but has no weight_scale beside it",
                     "; the file is damaged or not whole: download it again");
}

}  // namespace sdcpp
