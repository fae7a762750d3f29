#include "pipeline/ip_adapters.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "base/log.h"
#include "models/unet_blocks.h"
#include "pipeline/model.h"

namespace sdcpp {
namespace {

void require_picture(const IpAdapterChoice& choice, int64_t side) {
    const std::string name = choice.path.filename().string();
    if (choice.side != side || choice.picture.size() != 3 * static_cast<size_t>(side * side))
        fail(SDCPP_INVALID_ARGUMENT, "the picture of ", name, " is ", choice.side, " x ", choice.side,
             "; the CLIP vision encoder takes ", side, " x ", side);
    if (!std::all_of(choice.picture.begin(), choice.picture.end(), [](float value) { return std::isfinite(value); }))
        fail(SDCPP_INVALID_ARGUMENT, "the picture of ", name, " has values that are no finite numbers");
}

IpAdapterInUse opened(Model& model, const IpAdapterChoice& choice) {
    IpAdapterInUse out;
    out.written = written_at(choice.path);
    out.file = open_ip_adapter(choice.path);
    auto network = std::make_unique<IpAdapter>(*out.file.files);
    require_fit(*network, out.file.name, *model.denoiser(), model.need(Role::vision_encoder).as<ClipVision>(),
                model.family.title);
    log(SDCPP_LOG_INFO, out.file.name + ": an " + std::string(title_of(network->kind())));
    out.executor = model.executor_of(std::move(network));
    return out;
}

// What the vision encoder sees: of the picture or, for the way away from it, of nothing. The authors take zeros in
// place of the vector, and the states of a grey picture in place of those of its patches.
Array seen_by(Model& model, const IpAdapter& adapter, const IpAdapterChoice& choice, bool nothing) {
    Executor& vision = model.need(Role::vision_encoder);
    const auto& eyes = vision.as<ClipVision>();
    if (nothing && !adapter.takes_patches())
        return Array::of("x", {1, 1, eyes.projected_width()}, Floats(static_cast<size_t>(eyes.projected_width())));
    const Floats grey(nothing ? choice.picture.size() : 0);
    const Array picture{
        "x", GGML_TYPE_F32, {1, 3, eyes.side(), eyes.side()}, nothing ? grey.data() : choice.picture.data()};
    const auto output = adapter.takes_patches() ? ClipVision::Output::penultimate : ClipVision::Output::vector;
    return std::move(vision.run({picture}, eyes.select(output)).front());
}

const std::vector<Array>& made_of(Model& model, IpAdapterInUse& used, bool nothing) {
    std::vector<Array>& kept = nothing ? used.of_nothing : used.of_picture;
    if (!kept.empty()) return kept;
    const auto& adapter = used.executor->as<IpAdapter>();
    const Array seen = seen_by(model, adapter, used.choice, nothing);
    std::vector<Array> made = used.executor->run({seen}, adapter.select());
    used.executor->rest();
    std::vector<Array> in_order;
    for (const size_t number : numbers_in_files(model.need(Role::denoiser).as<UNet>())) {
        in_order.push_back(std::move(made[2 * number]));
        in_order.push_back(std::move(made[2 * number + 1]));
    }
    kept = std::move(in_order);
    return kept;
}

// One array of the picture's for rows that are not negative, and of nothing's for those that are. A value is
// multiplied by the strength, which does as much as a factor of what an attention finds.
Array rows_of(const IpAdapterInUse& used, size_t number, const std::vector<bool>& negative) {
    const bool value = number % 2 == 1;
    const auto factor = static_cast<float>(value ? used.choice.strength : 1.0);
    std::vector<int64_t> shape = (used.of_picture.empty() ? used.of_nothing : used.of_picture)[number].shape;
    shape.front() = static_cast<int64_t>(negative.size());
    Floats all;
    for (const bool row : negative) {
        const Array& own = (row ? used.of_nothing : used.of_picture)[number];
        for (const float one : own.floats()) all.push_back(factor * one);
    }
    return Array::of("", std::move(shape), std::move(all));
}

const std::vector<Array>& inputs_of(Model& model, IpAdapterInUse& used, const std::vector<bool>& negative) {
    if (!used.inputs.empty() && used.rows == negative && used.strength == used.choice.strength) return used.inputs;
    for (const bool nothing : {false, true})
        if (std::find(negative.begin(), negative.end(), nothing) != negative.end()) (void)made_of(model, used, nothing);
    used.inputs.clear();
    for (size_t i = 0; i < 2 * used.executor->as<IpAdapter>().attentions().size(); ++i)
        used.inputs.push_back(rows_of(used, i, negative));
    used.rows = negative;
    used.strength = used.choice.strength;
    return used.inputs;
}

// Their shapes, without data.
std::vector<Array> to_be_inputs(const Model& model, const IpAdapterInUse& used, int64_t rows) {
    const int64_t tokens =
        used.executor->as<IpAdapter>().tokens(model.need(Role::vision_encoder).as<ClipVision>().tokens());
    std::vector<Array> out;
    for (const int64_t width : model.need(Role::denoiser).as<UNet>().attentions())
        out.insert(out.end(), 2, {"", GGML_TYPE_F32, {rows, tokens, width}});
    return out;
}

}  // namespace

int vision_side(const Model& model) {
    const Executor* vision = model.by_role(Role::vision_encoder);
    return vision ? static_cast<int>(vision->as<ClipVision>().side()) : 0;
}

Json set_ip_adapters(Model& model, std::vector<IpAdapterChoice> choices) {
    require_count(choices.size(), "IP-Adapters");
    std::vector<IpAdapterInUse>& all = model.ip_adapters;
    const auto cut = [&](size_t count) {
        if (count < all.size()) all.erase(all.begin() + static_cast<std::ptrdiff_t>(count), all.end());
    };
    try {
        if (!choices.empty()) {
            require_takes_pictures(model.denoiser(), model.family.title);
            const int64_t side = model.need(Role::vision_encoder).as<ClipVision>().side();
            for (const IpAdapterChoice& choice : choices) {
                require_choice(choice);
                require_picture(choice, side);
            }
        }
        cut(still_open(all, choices));
        for (size_t i = 0; i < choices.size(); ++i) {
            if (i >= all.size()) all.push_back(opened(model, choices[i]));
            IpAdapterInUse& used = all[i];
            if (used.choice.picture != choices[i].picture) {
                used.of_picture.clear();
                used.inputs.clear();
            }
            used.choice = std::move(choices[i]);
        }
    } catch (...) {
        cut(0);
        throw;
    }
    Json::Array out;
    for (const IpAdapterInUse& used : all) {
        const auto& adapter = used.executor->as<IpAdapter>();
        const int64_t tokens = adapter.tokens(model.need(Role::vision_encoder).as<ClipVision>().tokens());
        out.emplace_back(Json::Object{{"kind", Json(std::string(title_of(adapter.kind())))}, {"tokens", Json(tokens)}});
    }
    return Json(std::move(out));
}

void add_ip_adapters(Model& model, std::vector<Array>& inputs, size_t step, size_t steps,
                     const std::vector<bool>& negative, bool compute) {
    size_t picture = 0;
    for (IpAdapterInUse& used : model.ip_adapters) {
        if (!counts(used.choice, step, steps)) continue;
        const auto rows = static_cast<int64_t>(negative.size());
        std::vector<Array> own = compute ? inputs_of(model, used, negative) : to_be_inputs(model, used, rows);
        for (size_t i = 0; i < own.size(); ++i) {
            own[i].name = i % 2 == 0 ? picture_key_name(picture, i / 2) : picture_value_name(picture, i / 2);
            inputs.push_back(std::move(own[i]));
        }
        ++picture;
    }
}

}  // namespace sdcpp
