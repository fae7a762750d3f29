// LoRA and its kin: small files that change a model's weights. Each kind is a formula for the changed weights of one
// layer; the kinds stand in files of one subject.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "weights/adapters/factor.h"

namespace sdcpp {

// How a layer's values are looked at: as rows, one for each of its outputs.
struct LayerShape {
    std::vector<int64_t> sides;  // outermost first, such as [out, in, height, width]; [n] of a vector

    int64_t rows() const { return sides.front(); }
    int64_t columns() const;
};

// The change that one file makes to the weights of one layer, or to its bias. A layer may be larger than the weight
// that it changes: files may hold layers joined that the model has apart.
class Adapter {
  public:
    virtual ~Adapter() = default;

    // So many rows, from the first on, are computed together.
    virtual int64_t group() const { return 1; }
    // Whether apply() needs figures of all rows.
    virtual bool needs_norms() const { return false; }
    // Adds what rows [first, first + count) have to the figures. `values` are those below, and overwritten.
    virtual void add_norms(int64_t first, int64_t count, float* values, std::vector<double>& norms) const;

    // Rows [first, first + count) of the layer, whole groups, at this weight: `values` are those below, and changed in
    // place. Called from several threads. Throws SDCPP_BAD_FILE.
    virtual void apply(float weight, int64_t first, int64_t count, const std::vector<double>& norms,
                       float* values) const = 0;
};

using AdapterPtr = std::shared_ptr<const Adapter>;

// The tensors of one layer in an adapter's file, by the ending of their names in the commonest spelling, such as
// "lora_down.weight"; and its alpha, if it has one.
struct AdapterLayer {
    std::string file, name;  // for messages: the file's name, and the layer's in it
    std::map<std::string_view, Factor> tensors;
    std::optional<double> alpha;
    bool on_input = false;      // IA3's factors are the inputs'
    bool root_of_rank = false;  // the scale is alpha / sqrt(rank) (rsLoRA, Kalajdzievski 2023)

    const Factor* find(std::string_view ending) const;
    const Factor& need(std::string_view ending) const;  // throws SDCPP_BAD_FILE
    bool has(std::string_view ending) const { return find(ending) != nullptr; }
    // alpha / rank; 1 without an alpha, or if it is 0. Throws SDCPP_BAD_FILE for a rank of 0.
    float scale(int64_t rank) const;
};

// Endings of tensors' names after a layer's, all spellings, and their commonest spelling; longest first.
struct AdapterEnding {
    std::string_view spelling, common;
};
const std::vector<AdapterEnding>& adapter_endings();

// The kind of a layer's change, for people, such as "LoRA"; "" if the tensors are of no known kind.
std::string adapter_kind(const AdapterLayer& layer);
// The rank of a layer's change; 0 if its kind has none.
int64_t adapter_rank(const AdapterLayer& layer);

// The changes of a layer's weights and of its bias; null if the file has none. `weight` and `bias`: their shapes in the
// model, null if the model has none. Throws SDCPP_BAD_FILE for tensors of other shapes, SDCPP_UNSUPPORTED_MODEL for a
// change that cannot be made.
AdapterPtr weight_change(const AdapterLayer& layer, const LayerShape& weight);
AdapterPtr bias_change(const AdapterLayer& layer, const LayerShape& bias);
bool changes_weight(const AdapterLayer& layer);
bool changes_bias(const AdapterLayer& layer);

// The kinds; each returns null if the layer is of another one.
AdapterPtr low_rank(const AdapterLayer& layer, const LayerShape& shape);    // LoRA, LoCon, Tucker, LoHa
AdapterPtr kronecker(const AdapterLayer& layer, const LayerShape& shape);   // LoKr
AdapterPtr glora(const AdapterLayer& layer, const LayerShape& shape);       // GLoRA
AdapterPtr plain(const AdapterLayer& layer, const LayerShape& shape);       // differences, whole weights, IA3
AdapterPtr orthogonal(const AdapterLayer& layer, const LayerShape& shape);  // OFT, BOFT
// DoRA: `inner` is the change of the direction.
AdapterPtr decomposed(const AdapterLayer& layer, const LayerShape& shape, AdapterPtr inner);

}  // namespace sdcpp
