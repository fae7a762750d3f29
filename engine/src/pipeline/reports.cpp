#include "pipeline/reports.h"

#include <map>
#include <sstream>

#include "base/error.h"
#include "families/adapters.h"
#include "families/fit.h"
#include "families/strangers.h"
#include "families/summary.h"
#include "io/tensor_file.h"
#include "pipeline/options.h"
#include "pipeline/prompt.h"
#include "pipeline/upscale.h"
#include "weights/adapters/adapter_file.h"
#include "weights/names.h"
#include "weights/packed/packed_weights.h"
#include "weights/packed/packing.h"
#include "weights/scales.h"

namespace sdcpp {
namespace {

template <typename Count>
Json whole(Count value) {
    return Json(static_cast<int64_t>(value));
}

Json span(double start, double end) { return Json(Json::Array{Json(start), Json(end)}); }

Json stage_json(const PlanStage& stage) {
    return Json(Json::Object{{"name", Json(stage.name)},
                             {"param_bytes", whole(stage.param_bytes)},
                             {"compute_bytes", whole(stage.compute_bytes)},
                             {"carry_in_bytes", whole(stage.carry_in_bytes)},
                             {"carry_out_bytes", whole(stage.carry_out_bytes)},
                             {"extra_bytes", whole(stage.extra_bytes)},
                             {"seconds", Json(stage.seconds)},
                             {"parts", json_list(stage.parts)},
                             {"same_block", Json(stage.same_block)}});
}

Json adapter_json(const TensorFile& file, const AdapterContents& contents) {
    return Json(Json::Object{{"kinds", json_list(contents.kinds)},
                             {"ranks", json_list(contents.ranks)},
                             {"layers", whole(contents.layers)},
                             {"title", Json(adapter_title(file))}});
}

// Adds a file's tensors; `prefix` is put before their names. The title of a file that cannot be used goes to `strange`.
// A LoRA's kinds and ranks go to `adapter`.
void add_tensors(Json::Array& out, std::string& format, std::string& strange, Json& adapter, const ModelPath& path,
                 const std::string& prefix) {
    const TensorFile file = open_tensor_file(path.path);
    std::map<std::string, std::string, std::less<>> canonical;
    TensorFile used = file;
    if (const std::string title = strange_title(file); title.empty()) {
        TensorFile* const files[] = {&used};
        try {
            attach_packings(files, namings());
            attach_scales(files, namings());
        } catch (const Error&) {  // opening tells it
            used = file;
        }
    } else {
        strange = title;
        if (const AdapterContents found = adapter_contents(file); found.layers > 0) adapter = adapter_json(file, found);
    }
    for (const NamedTensor& named : canonical_tensors(used, path.role, namings()))
        canonical[named.tensor.name] = named.name;
    std::map<std::string_view, const TensorInfo*> packed;
    for (const TensorInfo& tensor : used.tensors)
        if (tensor.packing) packed.emplace(tensor.name, &tensor);
    format = file.format;
    for (const TensorInfo& tensor : file.tensors) {
        const auto found = canonical.find(tensor.name);
        const auto own = packed.find(tensor.name);
        const TensorInfo& true_one = own == packed.end() ? tensor : *own->second;
        const std::string type = own == packed.end() ? dtype_name(tensor.type) : true_one.packing->format;
        out.emplace_back(Json::Object{{"name", Json(prefix + tensor.name)},
                                      {"canonical", Json(found == canonical.end() ? std::string() : found->second)},
                                      {"type", Json(type)},
                                      {"shape", json_list(true_one.shape)},
                                      {"bytes", whole(tensor.bytes.size())}});
    }
}

}  // namespace

Json devices_json() {
    Json::Array devices, backends;
    for (const DeviceInfo& device : list_devices())
        devices.emplace_back(Json::Object{{"name", Json(device.name)},
                                          {"description", Json(device.description)},
                                          {"is_cpu", Json(device.is_cpu)},
                                          {"free_bytes", whole(device.free_bytes)},
                                          {"total_bytes", whole(device.total_bytes)}});
    for (const BackendInfo& backend : list_backends())
        backends.emplace_back(
            Json::Object{{"name", Json(backend.name)}, {"device_count", whole(backend.device_count)}});
    return Json(Json::Object{{"devices", Json(std::move(devices))},
                             {"backends", Json(std::move(backends))},
                             {"trouble", Json(backend_trouble())}});
}

Json components_json() {
    Json::Array out;
    for (const Component* component : components()) {
        Json::Array flags;
        std::istringstream words{std::string(component->flags)};
        for (std::string word; words >> word;) flags.emplace_back(word);
        out.emplace_back(Json::Object{{"name", Json(std::string(component->naming.name))},
                                      {"kind", Json(std::string(component->naming.kind))},
                                      {"title", Json(std::string(network_of(*component).title))},
                                      {"option", Json(std::string(component->option))},
                                      {"flags", Json(std::move(flags))},
                                      {"help", Json(std::string(component->help))}});
    }
    return Json(std::move(out));
}

Json listing_json(const ModelPath& path) {
    Json::Array tensors;
    std::string format, strange;
    Json refusal, adapter;
    const bool folder = std::filesystem::is_directory(path.path);
    for (const ModelPath& part : resolved(path, namings()))
        add_tensors(tensors, format, strange, adapter, part,
                    folder ? part.path.parent_path().filename().string() + "/" : std::string());
    // the same steps as for opening a model
    FilesSummary summary;
    std::vector<std::string> unused;
    const Component* alone = nullptr;
    try {
        const ModelFiles files = open_files({path});
        summary = summarize(files);
        alone = sole_component(files);
        const std::vector<NamedNetwork> made = make_networks(files);
        require_fit(made, family_of(files));
        unused = unused_tensors(files, made);
    } catch (const Error& error) {
        if (error.status() != SDCPP_UNSUPPORTED_MODEL && error.status() != SDCPP_MISSING_PART) throw;
        refusal = Json(Json::Object{{"status", whole(error.status())},
                                    {"message", Json(std::string(error.what()))},
                                    {"option", Json(error.option())}});
    }
    Json::Array networks, missing;
    for (const FilesSummary::Network& network : summary.networks)
        networks.emplace_back(Json::Object{{"name", Json(std::string(network.part->name))},
                                           {"title", Json(std::string(network.part->title))},
                                           {"parameters", whole(network.parameters)}});
    for (const Component* component : summary.missing) missing.emplace_back(std::string(network_of(*component).title));
    return Json(Json::Object{{"format", Json(std::move(format))},
                             {"family", Json(summary.family ? std::string(summary.family->title) : strange)},
                             {"refusal", std::move(refusal)},
                             {"adapter", std::move(adapter)},
                             {"unused", json_list(unused)},
                             {"option", Json(std::string(alone ? alone->option : ""))},
                             {"networks", Json(std::move(networks))},
                             {"missing", Json(std::move(missing))},
                             {"tensors", Json(std::move(tensors))}});
}

namespace {

Json networks_json(const Model& model) {
    Json::Array out;
    for (const Model::Loaded& one : model.networks)
        out.emplace_back(Json::Object{{"name", Json(one.name)}, {"role", Json(std::string(name_of(one.role)))}});
    return Json(std::move(out));
}

// The parts that text to image needs and the model lacks.
Json component_json(const Component& component) {
    return Json(Json::Object{{"name", Json(std::string(component.naming.name))},
                             {"kind", Json(std::string(component.naming.kind))},
                             {"title", Json(std::string(network_of(component).title))},
                             {"option", Json(std::string(component.option))}});
}

Json missing_json(const Model& model, bool tiny) {
    Json::Array out;
    for (const Component* component : missing_components(model.files, model.family, tiny))
        out.push_back(component_json(*component));
    return Json(std::move(out));
}

// How reference pictures are prepared; null if the model takes none.
Json references_json(const Model& model) {
    const auto how = model.family.references ? model.family.references(model.files) : std::nullopt;
    if (!how) return {};
    Json::Array sizes;
    for (const auto& [width, height] : how->sizes) sizes.emplace_back(Json::Array{whole(width), whole(height)});
    return Json(Json::Object{{"pixels", whole(how->pixels)}, {"sizes", Json(std::move(sizes))}});
}

Json text_encoders_json(const Model& model) {
    const TextRecipe& recipe = model.family.text;
    Json::Array out;
    for (const TextEncoder* encoder : text_encoders(model)) {
        const TextEncoder::Traits traits = encoder->traits();
        const int64_t length = padded_length(model, encoder->name()).value_or(0);
        const bool talks = traits.positions == 0;
        out.emplace_back(Json::Object{
            {"name", Json(encoder->name())},
            {"tokenizer", Json(traits.tokenizer)},
            {"vocabulary", whole(traits.vocabulary)},
            {"width", whole(traits.width)},
            {"positions", whole(traits.positions)},
            {"length", whole(length)},
            {"layers", whole(traits.layers)},
            {"padding", whole(traits.padding)},
            {"template", Json(std::string(talks && !recipe.chat_template.empty() ? recipe.chat_template : "{}"))},
            {"for_empty", Json(std::string(talks ? recipe.for_empty : ""))},
            {"file", Json(encoder->table_file().path().string())}});
    }
    return Json(std::move(out));
}

}  // namespace

Json model_json(const Model& model) {
    Json::Object defaults;
    for (const Option& option : option_table())
        if (option.from == DefaultFrom::model)
            defaults[option.name] =
                Json(default_text(option, [&](const std::string& name) { return model.default_of(name); }));
    const ModelFacts& facts = model.facts;
    const Component* alone = sole_component(model.files);
    return Json(Json::Object{{"family", Json(std::string(model.family.name))},
                             {"title", Json(std::string(model.family.title))},
                             {"networks", networks_json(model)},
                             {"denoiser", Json(std::string(model.denoiser() ? model.denoiser()->name() : ""))},
                             {"text_encoders", text_encoders_json(model)},
                             {"missing", missing_json(model, false)},
                             {"missing_with_taesd", missing_json(model, true)},
                             {"alone", alone ? component_json(*alone) : Json()},
                             {"takes_guidance", Json(model.denoiser() && model.denoiser()->takes_guidance())},
                             {"latent_channels", whole(facts.latent.channels)},
                             {"latent_factor", whole(facts.latent.factor)},
                             {"latent_scale", Json(facts.latent.scale)},
                             {"references", references_json(model)},
                             {"extra_channels", whole(model.denoiser() ? model.denoiser()->extra_channels() : 0)},
                             {"upscale_factor", whole(upscale_factor(model))},
                             {"vision_side", whole(vision_side(model))},
                             {"size_multiple", whole(facts.size_multiple)},
                             {"v_prediction", Json(facts.predicts == Predicts::v)},
                             {"flow", Json(model.family.prediction.flow)},
                             {"device", Json(std::string(model.device.name()))},
                             {"defaults", Json(std::move(defaults))}});
}

Json plan_json(const std::vector<PlanStage>& stages, const PlanOptions& options, const Plan& plan) {
    const Timeline times = timeline(stages, options, plan);
    Json::Array listed, residents, segments, pieces;
    for (size_t i = 0; i < stages.size(); ++i) {
        listed.push_back(stage_json(stages[i]));
        if (plan.resident[i]) residents.push_back(whole(i));
    }
    for (size_t i = 0; i < plan.segments.size(); ++i) {
        const PlannedSegment& s = plan.segments[i];
        const SegmentTimes& t = times.segments[i];
        segments.emplace_back(Json::Object{{"first", whole(s.first)},
                                           {"last", whole(s.last)},
                                           {"param_bytes", whole(s.param_bytes)},
                                           {"compute_bytes", whole(s.compute_bytes)},
                                           {"footprint_bytes", whole(s.footprint_bytes)},
                                           {"streamed_bytes", whole(s.streamed_bytes)},
                                           {"resident", Json(s.resident)},
                                           {"slot", s.slot < 0 ? Json() : whole(s.slot)},
                                           {"upload_seconds", span(t.upload_start, t.upload_end)},
                                           {"compute_span", span(t.compute_start, t.compute_end)}});
    }
    for (size_t i = 0; i < plan.pieces.size(); ++i) {
        const PlannedPiece& p = plan.pieces[i];
        const PieceTimes& t = times.pieces[i];
        pieces.emplace_back(Json::Object{{"segment", whole(p.segment)},
                                         {"stage", whole(p.stage)},
                                         {"bytes", whole(p.bytes)},
                                         {"offset", whole(p.offset)},
                                         {"upload_seconds", span(t.upload_start, t.upload_end)}});
    }
    return Json(Json::Object{{"policy", Json(std::string(policy_name(plan.policy)))},
                             {"stages", Json(std::move(listed))},
                             {"segments", Json(std::move(segments))},
                             {"pieces", Json(std::move(pieces))},
                             {"resident_stages", Json(std::move(residents))},
                             {"streamed_stage_bytes", json_list(plan.streamed)},
                             {"resident_bytes", whole(plan.resident_bytes)},
                             {"streamed_bytes_per_step", whole(plan.streamed_bytes_per_step)},
                             {"peak_bytes", whole(plan.peak_bytes)},
                             {"workspace_bytes", whole(plan.workspace_bytes)},
                             {"carry_bytes", whole(plan.carry_bytes)},
                             {"slots", json_list(plan.slots)},
                             {"together", whole(plan.together)},
                             {"group", whole(plan.group)},
                             {"passes", whole(plan.passes)},
                             {"predicted_step_seconds", Json(plan.predicted_step_seconds)},
                             {"limit_step_seconds", Json(plan.limit_step_seconds)}});
}

Json run_json(const std::string& network, const RunReport& report) {
    return Json(Json::Object{{"network", Json(network)},
                             {"plan", plan_json(report.stages, report.options, report.plan)},
                             {"runs", whole(report.runs)},
                             {"uploaded_bytes", whole(report.uploaded_bytes)},
                             {"first_runs", whole(report.first_runs)},
                             {"loaded_bytes", whole(report.loaded_bytes)},
                             {"seconds", Json(report.seconds)},
                             {"first_seconds", Json(report.first_seconds)},
                             {"compute_seconds", Json(report.compute_seconds)},
                             {"first_compute_seconds", Json(report.first_compute_seconds)},
                             {"stall_seconds", Json(report.stall_seconds)},
                             {"upload_seconds", Json(report.upload_seconds)},
                             {"replanned", Json(report.replanned)}});
}

Json take_runs(Model& model) {
    Json::Array runs;
    for (const Model::Loaded& one : model.networks)
        if (one.executor->has_run()) runs.push_back(run_json(one.name, one.executor->take_report()));
    for (const Control& control : model.controls)
        if (control.hint->has_run()) runs.push_back(run_json(control.in_front + "hint", control.hint->take_report()));
    for (size_t i = 0; i < model.ip_adapters.size(); ++i)
        if (Executor& executor = *model.ip_adapters[i].executor; executor.has_run())
            runs.push_back(run_json("picture." + std::to_string(i), executor.take_report()));
    return Json(std::move(runs));
}

Json memory_json(const DeviceMemory::Bytes& peak, uint64_t mapped) {
    const auto held = [&](MemoryClass kind) { return whole(peak.by_class[static_cast<size_t>(kind)]); };
    return Json(Json::Object{{"workspace", held(MemoryClass::workspace)},
                             {"weights", held(MemoryClass::weights)},
                             {"slots", held(MemoryClass::slots)},
                             {"carries", held(MemoryClass::carries)},
                             {"peak", whole(peak.total)},
                             {"mapped", whole(mapped)}});
}

Json take_memory(Model& model) {
    const DeviceMemory::Bytes peak = model.device.memory().take_peak();
    uint64_t mapped = 0;
    for (const Model::Loaded& one : model.networks) {
        mapped += one.executor->mapped_weight_bytes();
        one.executor->rest();
    }
    for (const Control& control : model.controls) mapped += control.hint->mapped_weight_bytes();
    for (const IpAdapterInUse& used : model.ip_adapters) mapped += used.executor->mapped_weight_bytes();
    return memory_json(peak, mapped);
}

Json profile_json(const std::vector<ProfileRow>& rows) {
    Json::Array out;
    for (const ProfileRow& row : rows)
        out.emplace_back(Json::Object{{"network", Json(row.network)},
                                      {"stage", Json(row.stage)},
                                      {"operation", Json(row.operation)},
                                      {"runs", whole(row.runs)},
                                      {"seconds", Json(row.seconds)},
                                      {"flops", Json(row.flops)},
                                      {"bytes", Json(row.bytes)}});
    return Json(std::move(out));
}

}  // namespace sdcpp
