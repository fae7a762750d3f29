#include "pipeline/controls.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "base/error.h"
#include "base/log.h"
#include "models/t2i_adapter.h"
#include "pipeline/model.h"

namespace sdcpp {
namespace {

constexpr double softness = 0.825;  // a block's factor for each step away from the middle (A1111)

void require_values(const ControlChoice& choice) {
    const std::string name = choice.path.filename().string();
    for (const double weight : choice.weights)
        if (!std::isfinite(weight)) fail(SDCPP_INVALID_ARGUMENT, "a weight of ", name, " is not a finite number");
    for (const float value : choice.hint)
        if (!(value >= 0 && value <= 1))
            fail(SDCPP_INVALID_ARGUMENT, "the hint of ", name, " has values outside 0 to 1");
}

void require_outputs(const Control& control, const ControlChoice& choice) {
    if (!choice.weights.empty() && choice.weights.size() != control.outputs)
        fail(SDCPP_INVALID_ARGUMENT, control.file.name, " takes ", control.outputs, " weights, one for each ",
             control.file.kind == ControlKind::t2i_adapter ? "level" : "block and the middle", "; ",
             choice.weights.size(), " are given");
    if (control.types > 0 && (choice.type < 0 || choice.type >= control.types))
        fail(SDCPP_INVALID_ARGUMENT, control.file.name, " takes hints of several types: name one of its ",
             control.types, " types by type=…");
    if (control.types == 0 && choice.type >= 0)
        fail(SDCPP_INVALID_ARGUMENT, control.file.name, " takes hints of one type: leave type out");
}

Control opened(Model& model, const ControlChoice& choice, size_t number) {
    Control out;
    out.written = written_at(choice.path);
    out.file = open_control(choice.path, model.files);
    require_fit(out.file, *model.denoiser(), model.family.title);
    out.in_front = "control." + std::to_string(number) + ".";
    const ModelFiles& files = *out.file.files;
    std::unique_ptr<Network> hint;
    Executor& denoiser = model.need(Role::denoiser);
    if (out.file.kind == ControlKind::t2i_adapter) {
        auto adapter = std::make_unique<T2IAdapter>(files);
        out.outputs = adapter->features().size();
        out.factor = adapter->features().back().divisor;
        hint = std::move(adapter);
    } else {
        const ControlNetShape shape(files);
        if (shape.hint_channels != 3 || shape.hint_factor != model.facts.latent.factor)
            fail(SDCPP_UNSUPPORTED_MODEL, out.file.name, " takes hints of ", shape.hint_channels, " channels and ",
                 shape.hint_factor, " times the latent's sides; 3 and ", model.facts.latent.factor,
                 " are possible here");
        out.outputs = shape.residuals.size();
        out.hint_width = shape.model_channels;
        out.types = shape.types;
        hint = std::make_unique<ControlHint>(files);
    }
    require_outputs(out, choice);
    change_sources(out.file, hint->weights(), 0);
    out.hint = model.executor_of(std::move(hint));
    out.first_stage = denoiser.network().stages().size();
    if (out.file.kind != ControlKind::t2i_adapter)
        denoiser.extend([&](Declaration& declaration) {
            const size_t first = declaration.weights().all().size();
            declare_control(declaration, out.file, model.files, out.in_front);
            change_sources(out.file, declaration.weights(), first);
        });
    out.last_stage = denoiser.network().stages().size();
    log(SDCPP_LOG_INFO, out.file.name + ": a " + std::string(title_of(out.file, out.types)) + " with " +
                            std::to_string(out.outputs) + " outputs");
    return out;
}

double weight_of(const Control& control, size_t number) {
    double weight = control.choice.strength;
    if (!control.choice.weights.empty()) weight *= control.choice.weights[number];
    if (control.choice.mode != ControlMode::balanced)
        weight *= std::pow(softness, static_cast<double>(control.outputs - 1 - number));
    return weight;
}

bool all_weights_are_zero(const ControlChoice& choice) {
    const auto zero = [](double weight) { return weight == 0; };
    return !choice.weights.empty() && std::all_of(choice.weights.begin(), choice.weights.end(), zero);
}

// [C * f * f, H/f, W/f] from a hint, grey if C is 1.
Array patches_of(const T2IAdapter& adapter, const ControlChoice& choice) {
    const int64_t f = adapter.factor(), channels = adapter.hint_channels();
    const int64_t height = choice.height / f, width = choice.width / f, pixels = int64_t{choice.height} * choice.width;
    const auto pixel = [&](int64_t channel, int64_t y, int64_t x) {
        const auto at = static_cast<size_t>(y * choice.width + x), plane = static_cast<size_t>(pixels);
        if (channels == 3) return choice.hint[static_cast<size_t>(channel) * plane + at];
        return 0.299f * choice.hint[at] + 0.587f * choice.hint[plane + at] + 0.114f * choice.hint[2 * plane + at];
    };
    Floats out;
    out.reserve(static_cast<size_t>(channels * pixels));
    for (int64_t c = 0; c < channels; ++c)
        for (int64_t dy = 0; dy < f; ++dy)
            for (int64_t dx = 0; dx < f; ++dx)
                for (int64_t y = 0; y < height; ++y)
                    for (int64_t x = 0; x < width; ++x) out.push_back(pixel(c, y * f + dy, x * f + dx));
    return Array::of("x", {1, channels * f * f, height, width}, std::move(out));
}

// What its network makes of the hint, once a run.
const std::vector<Array>& seen_by(Control& control) {
    if (!control.seen.empty()) return control.seen;
    const ControlChoice& choice = control.choice;
    if (control.file.kind == ControlKind::t2i_adapter) {
        const auto& adapter = control.hint->as<T2IAdapter>();
        control.seen = control.hint->run({patches_of(adapter, choice)}, adapter.select());
    } else {
        std::vector<Array> inputs = {{"hint", GGML_TYPE_F32, {1, 3, choice.height, choice.width}, choice.hint.data()}};
        if (control.types > 0) inputs.push_back(Array::of("type", {1}, std::vector<int32_t>{choice.type}, true));
        control.seen = control.hint->run(inputs, Selection{});
    }
    control.hint->rest();
    return control.seen;
}

// The shapes of the same, without data.
std::vector<Array> to_be_seen(const Model& model, const Control& control, int64_t height, int64_t width) {
    if (control.file.kind != ControlKind::t2i_adapter)
        return {{"x", GGML_TYPE_F32, {1, control.hint_width, height, width}}};
    std::vector<Array> out;
    const auto& adapter = control.hint->as<T2IAdapter>();
    const std::vector<std::string> names = adapter.select().results;
    for (size_t i = 0; i < names.size(); ++i) {
        const auto& [channels, divisor] = adapter.features()[i];
        const int64_t factor = model.facts.latent.factor;
        out.push_back({names[i], GGML_TYPE_F32, {1, channels, height * factor / divisor, width * factor / divisor}});
    }
    return out;
}

}  // namespace

Json set_controls(Model& model, std::vector<ControlChoice> choices) {
    require_count(choices.size(), "ControlNets");
    for (const ControlChoice& choice : choices) {
        require_choice(choice);
        require_values(choice);
    }
    std::vector<Control>& controls = model.controls;
    if (!choices.empty()) require_controllable(model.denoiser(), model.family.title);
    const auto cut = [&](size_t count) {
        if (count >= controls.size()) return;
        model.need(Role::denoiser).cut(controls[count].first_stage);
        controls.erase(controls.begin() + static_cast<std::ptrdiff_t>(count), controls.end());
    };
    cut(still_open(controls, choices));
    try {
        for (size_t i = 0; i < choices.size(); ++i) {
            if (i >= controls.size()) controls.push_back(opened(model, choices[i], i));
            Control& control = controls[i];
            require_outputs(control, choices[i]);
            if (control.choice.hint != choices[i].hint || control.choice.width != choices[i].width ||
                control.choice.type != choices[i].type)
                control.seen.clear();
            control.choice = std::move(choices[i]);
        }
    } catch (...) {
        cut(0);
        throw;
    }
    Json::Array out;
    for (const Control& control : controls)
        out.emplace_back(Json::Object{{"kind", Json(std::string(title_of(control.file, control.types)))},
                                      {"outputs", Json(static_cast<int64_t>(control.outputs))},
                                      {"types", Json(control.types)}});
    return Json(std::move(out));
}

void require_hints(const Model& model, int width, int height) {
    for (const Control& control : model.controls) {
        const ControlChoice& choice = control.choice;
        if (choice.width != width || choice.height != height ||
            choice.hint.size() != 3 * static_cast<size_t>(width) * static_cast<size_t>(height))
            fail(SDCPP_INVALID_ARGUMENT, "the hint of ", control.file.name, " is ", choice.width, " x ", choice.height,
                 ", the picture ", width, " x ", height);
        if (control.file.kind == ControlKind::t2i_adapter && (width % control.factor || height % control.factor))
            fail(SDCPP_INVALID_ARGUMENT, control.file.name, " needs sides in multiples of ", control.factor);
    }
}

Selection add_controls(Model& model, std::vector<Array>& inputs, size_t step, size_t steps,
                       const std::vector<bool>& negative, bool compute) {
    if (model.controls.empty()) return {};
    const auto latent = std::find_if(inputs.begin(), inputs.end(), [](const Array& one) { return one.name == "x"; });
    const int64_t height = latent->shape[2], width = latent->shape[3];
    Selection out;
    std::map<std::string, Array> features;  // sums over all adapters
    for (Control& control : model.controls) {
        if (!counts(control.choice, step, steps) || all_weights_are_zero(control.choice)) continue;
        std::vector<Array> seen = compute ? seen_by(control) : to_be_seen(model, control, height, width);
        if (control.file.kind == ControlKind::t2i_adapter) {
            for (size_t i = 0; i < seen.size(); ++i) {
                Floats values;
                if (compute) {
                    const auto weight = static_cast<float>(weight_of(control, i));
                    for (const float value : seen[i].floats()) values.push_back(weight * value);
                    if (const auto others = features.find(seen[i].name); others != features.end())
                        for (size_t n = 0; n < values.size(); ++n) values[n] += others->second.floats()[n];
                }
                const std::string& name = seen[i].name;
                Array sum = Array::of(name, seen[i].shape, std::move(values), true);
                features.insert_or_assign(name, std::move(sum));
            }
            continue;
        }
        for (size_t stage = control.first_stage; stage < control.last_stage; ++stage) out.stages.push_back(stage);
        Array hint = seen.front();
        hint.name = control.in_front + "hint";
        hint.shared = true;
        inputs.push_back(std::move(hint));
        Floats scales;
        for (const bool row : negative)
            for (size_t i = 0; i < control.outputs; ++i)
                scales.push_back(row && control.choice.mode == ControlMode::control
                                     ? 0.0f
                                     : static_cast<float>(weight_of(control, i)));
        inputs.push_back(Array::of(control.in_front + "scale",
                                   {static_cast<int64_t>(negative.size()), static_cast<int64_t>(control.outputs)},
                                   std::move(scales)));
        if (control.types > 0) {
            Floats waves = type_waves(control.choice.type, control.types);
            const auto count = static_cast<int64_t>(waves.size());
            inputs.push_back(Array::of(control.in_front + "type_waves", {1, count}, std::move(waves), true));
        }
    }
    for (auto& [name, sum] : features) inputs.push_back(std::move(sum));
    if (!out.stages.empty())
        for (size_t stage = 0; stage < model.controls.front().first_stage; ++stage) out.stages.push_back(stage);
    return out;
}

}  // namespace sdcpp
