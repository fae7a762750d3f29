#include "weights/adapters/adapter_set.h"

#include <algorithm>

#include "base/error.h"
#include "weights/adapters/adapted_source.h"

namespace sdcpp {

void AdapterSet::add(const Naming& naming, bool text, WeightList& weights) {
    names_.add(naming, text, weights);
    weights_.push_back(&weights);
}

AdapterSet::Files AdapterSet::open(const std::vector<AdapterChoice>& choices) const {
    Files out;
    for (const AdapterChoice& choice : choices) {
        const auto same = [&](const auto& file) { return file->path() == choice.path && file->current(); };
        if (const auto given = std::find_if(out.begin(), out.end(), same); given != out.end())
            out.push_back(*given);
        else if (const auto used = std::find_if(files_.begin(), files_.end(), same); used != files_.end())
            out.push_back(*used);
        else
            out.push_back(std::make_shared<const AdapterFile>(choice.path, names_));
    }
    return out;
}

AdapterSet::Chains AdapterSet::chains(const std::vector<AdapterChoice>& choices, const Files& files) const {
    Chains out;
    for (size_t i = 0; i < files.size(); ++i)
        for (const auto& entry : files[i]->changes()) {
            const size_t number = entry.first;
            const AdapterFile::Change& change = entry.second;
            const AdaptableLayer& layer = names_.layers()[number];
            const double weight = layer.text ? choices[i].text : choices[i].denoiser;
            if (weight == 0) continue;
            const auto add = [&](const Adapter& adapter, const std::vector<AdaptableLayer::Piece>& pieces, bool bias) {
                for (const AdaptableLayer::Piece& piece : pieces) {
                    const bool whole = pieces.size() == 1;
                    if (piece.first_row % adapter.group() != 0 || piece.rows % adapter.group() != 0 ||
                        (adapter.needs_norms() && !whole))
                        fail(SDCPP_UNSUPPORTED_MODEL, files[i]->path().filename().string(), ": the change of ",
                             change.layer.name, " cannot be cut into the model's q, k and v; take another LoRA");
                    out[{piece.network, piece.weight}].push_back(
                        {files[i].get(), number, bias, weight, piece.first_row, piece.columns});
                }
            };
            if (change.weight) add(*change.weight, layer.weight, false);
            if (change.bias) add(*change.bias, layer.bias, true);
        }
    return out;
}

AdapterSet::Exchange AdapterSet::exchange(const std::vector<AdapterChoice>& choices, Files files) {
    Exchange out{{}, files, chains(choices, files)};
    for (const auto& [place, links] : out.chains) {
        const auto present = chains_.find(place);
        if (present != chains_.end() && present->second == links) continue;
        const Weight& weight = weights_[place.first]->all()[place.second];
        if (weight.tensor && ggml_quantize_requires_imatrix(weight.tensor->type))
            fail(SDCPP_UNSUPPORTED_MODEL, "the weights ", weight.name, " are in ", ggml_type_name(weight.tensor->type),
                 ", which a LoRA's changes cannot be written in; open the model with ", OptionName{"wtype", "q8_0"});
        WeightSourcePtr source = untouched_.try_emplace(place, weight.source).first->second;
        for (const Link& link : links) {
            const AdapterFile::Change& change = link.file->changes().at(link.layer);
            source = std::make_shared<AdaptedSource>(std::move(source), link.bias ? change.bias : change.weight,
                                                     static_cast<float>(link.weight), link.columns, link.first_row,
                                                     ++generation_);
        }
        out.sources[place.first].emplace_back(place.second, std::move(source));
    }
    for (const auto& [place, links] : chains_)
        if (!out.chains.contains(place)) out.sources[place.first].emplace_back(place.second, untouched_.at(place));
    return out;
}

AdapterSet::Sources AdapterSet::use(Exchange exchange) noexcept {
    chains_.swap(exchange.chains);
    files_.swap(exchange.files);
    return std::move(exchange.sources);
}

}  // namespace sdcpp
