#include "pipeline/adapters.h"

#include <cmath>

#include "base/error.h"
#include "base/log.h"
#include "base/names.h"
#include "families/adapters.h"

namespace sdcpp {
namespace {

constexpr size_t max_choices = 100;

// Throws unless some of a file's tensors fit to the model.
void require_matches(const AdapterFile& file, const Model& model) {
    if (!file.changes().empty()) return;
    const std::string name = file.path().filename().string();
    if (!file.tensors().tensors.empty() && adapter_contents(file.tensors()).layers == 0)
        fail(SDCPP_UNSUPPORTED_MODEL, name,
             " holds no LoRA: none of its tensors' names is that of a change of weights");
    const std::string made_for = adapter_title(file.tensors());
    fail(SDCPP_UNSUPPORTED_MODEL, name, " is a LoRA for ", made_for.empty() ? "another kind of model" : made_for,
         " by its tensors' names; this model is ", model.family.title, ", none of whose layers it changes");
}

Json described(const AdapterFile& file) {
    return Json(Json::Object{{"kinds", json_list(file.kinds())},
                             {"ranks", json_list(file.ranks())},
                             {"layers", Json(static_cast<int64_t>(file.changes().size()))},
                             {"matched", Json(static_cast<int64_t>(file.matched()))},
                             {"unmatched", json_list(file.unmatched())}});
}

void tell(const AdapterFile& file) {
    const std::string name = file.path().filename().string();
    log(SDCPP_LOG_INFO, name + ": " + std::to_string(file.matched()) + " of " +
                            std::to_string(file.tensors().tensors.size()) + " tensors change " +
                            std::to_string(file.changes().size()) + " layers");
    const auto& unmatched = file.unmatched();
    if (unmatched.empty()) return;
    log(SDCPP_LOG_WARNING, name + ": " + std::to_string(unmatched.size()) + " of " +
                               std::to_string(file.tensors().tensors.size()) +
                               " tensors have no use in this model: " + first_few(unmatched));
}

}  // namespace

Json set_adapters(Model& model, const std::vector<AdapterChoice>& choices) {
    if (choices.size() > max_choices)
        fail(SDCPP_INVALID_ARGUMENT, choices.size(), " LoRAs are too many; ", max_choices, " are possible at a time");
    for (const AdapterChoice& choice : choices)
        if (!std::isfinite(choice.denoiser) || !std::isfinite(choice.text))
            fail(SDCPP_INVALID_ARGUMENT, "the weight of ", choice.path.filename().string(), " is not a finite number");
    const AdapterSet::Files files = model.adapters.open(choices);
    for (const auto& file : files) require_matches(*file, model);
    AdapterSet::Exchange exchange = model.adapters.exchange(choices, files);
    Json::Array out;
    for (const auto& file : files) out.push_back(described(*file));
    if (!exchange.sources.empty())
        for (const auto& file : files) tell(*file);
    // nothing fails from here on, so that what is in use is what weights have
    AdapterSet::Sources sources = model.adapters.use(std::move(exchange));
    for (auto& [network, changed] : sources) model.networks[network].executor->set_sources(std::move(changed));
    return Json(std::move(out));
}

}  // namespace sdcpp
