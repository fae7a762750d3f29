#include "weights/adapters/adapter.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "base/error.h"

namespace sdcpp {
namespace {

// What the kinds are told by: the first that a layer has.
struct KindRow {
    std::string_view ending, kind;
};
constexpr KindRow kinds[] = {{"lora_mid.weight", "LoRA (Tucker)"},
                             {"lora_down.weight", "LoRA"},
                             {"lora_up.weight", "LoRA"},
                             {"hada_w1_a", "LoHa"},
                             {"lokr_w1", "LoKr"},
                             {"lokr_w1_a", "LoKr"},
                             {"oft_blocks", "OFT"},
                             {"oft_diag", "OFT"},
                             {"a1.weight", "GLoRA"},
                             {"on_input", "IA3"},
                             {"w_norm", "norm"},
                             {"b_norm", "norm"},
                             {"diff", "full"},
                             {"diff_b", "full"},
                             {"set_weight", "set"}};
constexpr std::array<std::string_view, 3> bias_endings = {"lora_up.bias", "diff_b", "b_norm"};
constexpr std::string_view weight_endings[] = {"lora_down.weight", "lora_up.weight", "hada_w1_a", "lokr_w1",
                                               "lokr_w1_a",        "oft_blocks",     "oft_diag",  "a1.weight",
                                               "on_input",         "w_norm",         "diff",      "set_weight"};

}  // namespace

int64_t LayerShape::columns() const {
    int64_t n = 1;
    for (size_t d = 1; d < sides.size(); ++d) n *= sides[d];
    return n;
}

void Adapter::add_norms(int64_t, int64_t, float*, std::vector<double>&) const {}

const Factor* AdapterLayer::find(std::string_view ending) const {
    const auto found = tensors.find(ending);
    return found == tensors.end() ? nullptr : &found->second;
}

const Factor& AdapterLayer::need(std::string_view ending) const {
    if (const Factor* found = find(ending)) return *found;
    fail(SDCPP_BAD_FILE, file, ": the layer ", name, " lacks its ", ending);
}

float AdapterLayer::scale(int64_t rank) const {
    if (rank < 1) fail(SDCPP_BAD_FILE, file, ": the layer ", name, " has rank 0");
    if (!alpha || *alpha == 0) return 1;
    const auto size = static_cast<double>(rank);
    return static_cast<float>(*alpha / (root_of_rank ? std::sqrt(size) : size));
}

const std::vector<AdapterEnding>& adapter_endings() {
    static const std::vector<AdapterEnding> all = [] {
        std::vector<AdapterEnding> out = {
            {".lora_down.weight", "lora_down.weight"},
            {".lora_up.weight", "lora_up.weight"},
            {".lora_A.weight", "lora_down.weight"},
            {".lora_B.weight", "lora_up.weight"},
            {".lora.down.weight", "lora_down.weight"},
            {".lora.up.weight", "lora_up.weight"},
            {"_lora.down.weight", "lora_down.weight"},
            {"_lora.up.weight", "lora_up.weight"},
            {".lora_linear_layer.down.weight", "lora_down.weight"},
            {".lora_linear_layer.up.weight", "lora_up.weight"},
            {".lora_A", "lora_down.weight"},
            {".lora_B", "lora_up.weight"},
            {".down.weight", "lora_down.weight"},
            {".up.weight", "lora_up.weight"},
            {".lora_mid.weight", "lora_mid.weight"},
            {".lora_B.bias", "lora_up.bias"},
            {".lora_up.bias", "lora_up.bias"},
            {".lora_magnitude_vector", "dora_scale"},
            {".lora_magnitude_vector.weight", "dora_scale"},
        };
        for (const std::string_view same :
             {".alpha",   ".dora_scale", ".hada_w1_a", ".hada_w1_b",  ".hada_w2_a",      ".hada_w2_b", ".hada_t1",
              ".hada_t2", ".lokr_w1",    ".lokr_w1_a", ".lokr_w1_b",  ".lokr_w2",        ".lokr_w2_a", ".lokr_w2_b",
              ".lokr_t2", ".a1.weight",  ".a2.weight", ".b1.weight",  ".b2.weight",      ".bm.weight", ".diff",
              ".diff_b",  ".w_norm",     ".b_norm",    ".set_weight", ".reshape_weight", ".on_input",  ".weight",
              ".rescale", ".oft_blocks", ".oft_diag"})
            out.push_back({same, same.substr(1)});
        std::stable_sort(out.begin(), out.end(), [](const AdapterEnding& a, const AdapterEnding& b) {
            return a.spelling.size() > b.spelling.size();
        });
        return out;
    }();
    return all;
}

std::string adapter_kind(const AdapterLayer& layer) {
    for (const auto& [tell, kind] : kinds) {
        const Factor* found = layer.find(tell);
        if (!found) continue;
        std::string name(kind);
        if (name == "LoRA" && found->shape().size() == 4 && found->shape()[2] > 1) name = "LoCon";
        if (name == "OFT" && found->shape().size() == 4) name = "BOFT";
        return layer.has("dora_scale") ? name + " (DoRA)" : name;
    }
    return "";
}

int64_t adapter_rank(const AdapterLayer& layer) {
    for (const std::string_view first : {"lora_down.weight", "hada_w1_b", "lokr_w1_b", "lokr_w2_b"})
        if (const Factor* found = layer.find(first)) return found->rows();
    if (const Factor* found = layer.find("a2.weight")) return std::min(found->rows(), found->columns());
    return 0;
}

bool changes_weight(const AdapterLayer& layer) {
    return std::any_of(std::begin(weight_endings), std::end(weight_endings),
                       [&](auto ending) { return layer.has(ending); });
}

bool changes_bias(const AdapterLayer& layer) {
    return std::any_of(bias_endings.begin(), bias_endings.end(), [&](auto ending) { return layer.has(ending); });
}

AdapterPtr weight_change(const AdapterLayer& layer, const LayerShape& shape) {
    for (const auto kind : {low_rank, kronecker, glora, orthogonal, plain})
        if (AdapterPtr change = kind(layer, shape))
            return layer.has("dora_scale") ? decomposed(layer, shape, std::move(change)) : change;
    return nullptr;
}

}  // namespace sdcpp
