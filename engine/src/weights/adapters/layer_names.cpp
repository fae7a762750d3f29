#include "weights/adapters/layer_names.h"

#include <algorithm>
#include <map>

namespace sdcpp {
namespace {

constexpr std::string_view weight_ending = ".weight", bias_ending = ".bias";

std::string with_underscores(std::string name) {
    std::replace(name.begin(), name.end(), '.', '_');
    return name;
}

// A weight's layer: its name without the component's and the ending.
struct Place {
    std::string layer;
    bool bias = false;
};

Place place_of(std::string_view own) {
    if (own.ends_with(weight_ending)) return {std::string(own.substr(0, own.size() - weight_ending.size())), false};
    if (own.ends_with(bias_ending)) return {std::string(own.substr(0, own.size() - bias_ending.size())), true};
    return {std::string(own), false};
}

LayerShape shape_of(const Weight& weight) {
    if (weight.kind == WeightKind::vector) return {{weight.source->count()}};
    return {weight.shape};
}

}  // namespace

std::optional<size_t> LayerNames::find(const std::string& name) const {
    const auto found = numbers_.find(name);
    if (found == numbers_.end()) return std::nullopt;
    return found->second;
}

void LayerNames::add(const Naming& naming, bool text, const WeightList& list) {
    const std::string prefix = std::string(naming.name) + ".";
    const size_t network = networks_++, before = layers_.size();
    std::map<std::string, size_t, std::less<>> weights;  // numbers by own name
    const auto& all = list.all();
    for (size_t i = 0; i < all.size(); ++i)
        if (all[i].name.starts_with(prefix)) weights.emplace(all[i].name.substr(prefix.size()), i);

    std::map<std::string, size_t, std::less<>> own;  // layers by their own names
    const auto layer_named = [&](const std::string& name) -> AdaptableLayer& {
        const auto [at, fresh] = own.emplace(name, layers_.size());
        if (fresh) {
            layers_.emplace_back();
            layers_.back().name = prefix + name;
            layers_.back().text = text;
        }
        return layers_[at->second];
    };
    const auto append = [&](AdaptableLayer& layer, bool bias, size_t number) {
        const Weight& weight = all[number];
        LayerShape& whole = bias ? layer.bias_shape : layer.weight_shape;
        const LayerShape shape = shape_of(weight);
        auto& pieces = bias ? layer.bias : layer.weight;
        const int64_t first = pieces.empty() ? 0 : whole.rows();
        if (pieces.empty())
            whole = shape;
        else
            whole.sides[0] += shape.rows();
        pieces.push_back({network, number, first, shape.rows(), shape.columns()});
    };
    for (const auto& [name, number] : weights) {
        const Place place = place_of(name);
        append(layer_named(place.layer), place.bias, number);
    }
    // layers that files have joined
    for (const Fusion& fusion : naming.fused) {
        const Place joined = place_of(fusion.ending);
        for (const auto& [name, number] : weights) {
            if (!name.ends_with(fusion.parts.front())) continue;
            const std::string stem = name.substr(0, name.size() - fusion.parts.front().size());
            std::vector<size_t> parts, layers;
            for (const std::string_view part : fusion.parts) {
                const auto found = weights.find(stem + std::string(part));
                if (found == weights.end()) break;
                parts.push_back(found->second);
                layers.push_back(own.at(place_of(found->first).layer));
            }
            if (parts.size() != fusion.parts.size()) continue;
            AdaptableLayer& layer = layer_named(stem + joined.layer);
            if (!(joined.bias ? layer.bias : layer.weight).empty()) continue;
            for (const size_t part : parts) append(layer, joined.bias, part);
            layer.parts = layers;
        }
    }

    std::set<std::string> names;
    for (size_t i = before; i < layers_.size(); ++i) names.insert(layers_[i].name.substr(prefix.size()));
    const LayerAliases others = naming.adapters.others ? naming.adapters.others(names) : nullptr;
    const auto add_names = [&](size_t number, const std::string& name) {
        numbers_.emplace(name, number);
        for (const std::string_view start : naming.adapters.dotted) numbers_.emplace(std::string(start) + name, number);
        for (const std::string_view start : naming.adapters.joined)
            numbers_.emplace(std::string(start) + with_underscores(name), number);
    };
    for (size_t i = before; i < layers_.size(); ++i) {
        const std::string name = layers_[i].name.substr(prefix.size());
        add_names(i, name);
        if (others)
            for (const std::string& other : others(name)) add_names(i, other);
    }
}

}  // namespace sdcpp
