#include <algorithm>

#include "models/text_encoder.h"
#include "pipeline/checks.h"
#include "pipeline/evaluate.h"

namespace sdcpp {
namespace {

// One evaluation's inputs: x [N, C, H, W], timesteps [N], the arrays that the denoiser takes of a
// conditioning, such as context [N, T, D] and pooled [N, P], and, if it takes one, guidance [N].
Array evaluate_denoiser(Model& model, const Array& x, const Array& timesteps, const std::vector<Array>& inputs) {
    Executor& executor = model.need(Role::denoiser);
    const auto& net = executor.as<Denoiser>();
    const int64_t batch = x.shape[0];
    const auto given = [&](std::string_view name) {
        return std::find_if(inputs.begin(), inputs.end(), [&](const Array& array) { return array.name == name; });
    };
    bool complete = x.shape[1] == net.in_channels() && x.shape[2] % net.multiple() == 0 &&
                    x.shape[3] % net.multiple() == 0 && timesteps.shape[0] == batch;
    std::string wanted;
    for (const Denoiser::Taken& taken : net.conditioning()) {
        const auto array = given(taken.name);
        const bool tokens = taken.name == "context";
        complete = complete && array != inputs.end() && array->shape.size() == (tokens ? 3 : 2) &&
                   array->shape.front() == batch && array->shape.back() == taken.width;
        wanted += ", " + taken.name + (tokens ? " [N, T, " : " [N, ") + std::to_string(taken.width) + "]";
    }
    const auto guidance = given("guidance");
    if (net.takes_guidance()) {
        complete = complete && guidance != inputs.end() && guidance->shape == std::vector<int64_t>{batch};
        wanted += ", guidance [N]";
    }
    if (!complete)
        fail(SDCPP_INVALID_ARGUMENT, net.name(), " takes x [N, ", net.in_channels(),
             ", H, W] with sides in multiples of ", net.multiple(), ", timesteps [N]", wanted);
    std::vector<Conditioning> conditionings(static_cast<size_t>(batch));
    Noisy noisy;
    noisy.shape = {x.shape[1], 1, x.shape[2], x.shape[3]};
    noisy.picture_height = static_cast<int>(x.shape[2]) * model.facts.latent.factor;
    noisy.picture_width = static_cast<int>(x.shape[3]) * model.facts.latent.factor;
    for (int64_t row = 0; row < batch; ++row) {
        Conditioning& one = conditionings[static_cast<size_t>(row)];
        for (const Denoiser::Taken& taken : net.conditioning()) {
            const auto values = given(taken.name)->row(row);
            std::vector<int64_t> shape = given(taken.name)->shape;
            shape.front() = 1;
            one.items.push_back({Array::of(taken.name, std::move(shape), Floats(values.begin(), values.end()))});
        }
        noisy.conditionings.push_back(&one);
        noisy.negative.push_back(false);
    }
    noisy.x.assign(x.floats().begin(), x.floats().end());
    noisy.timesteps.assign(timesteps.floats().begin(), timesteps.floats().end());
    if (net.takes_guidance()) noisy.more.push_back(*guidance);
    std::vector<Array> all = net.inputs(noisy);
    require_hints(model, noisy.picture_width, noisy.picture_height);
    const Selection selection = add_controls(model, all, 0, 1, noisy.negative);
    add_ip_adapters(model, all, 0, 1, noisy.negative);
    const Array out = std::move(executor.run(all, selection).front());
    return Array::of("x", {batch, net.out_channels(), x.shape[2], x.shape[3]}, net.prediction(out, noisy));
}

}  // namespace

Array evaluate(Model& model, const std::string& network, std::vector<Array> inputs) {
    const LatentSpace& space = model.facts.latent;
    Executor& net = *model.find(network).executor;
    for (const Array& one : inputs)
        for (const int64_t side : one.shape)
            if (side < 1 || side > 65536) fail(SDCPP_INVALID_ARGUMENT, network, ": a side of ", one.name, " is ", side);
    const auto input = [&](const char* name, size_t dimensions) -> Array& {
        for (Array& one : inputs) {
            if (one.name != name) continue;
            if (one.shape.size() != dimensions)
                fail(SDCPP_INVALID_ARGUMENT, network, ": ", name, " must have ", dimensions, " dimensions");
            return one;
        }
        fail(SDCPP_INVALID_ARGUMENT, network, " takes an input ", name);
    };
    const Role role = model.find(network).role;
    if (role == Role::text_encoder) {
        const TextEncoder& encoder = net.as<TextEncoder>();
        const TextEncoder::Traits traits = encoder.traits();
        const Array& tokens = input("tokens", 2);
        if (traits.positions > 0 && tokens.shape[1] != traits.positions)
            fail(SDCPP_INVALID_ARGUMENT, "tokens must be [N, ", traits.positions, "]");
        const std::span<const int32_t> ids(static_cast<const int32_t*>(tokens.data),
                                           static_cast<size_t>(tokens.shape[0] * tokens.shape[1]));
        require_tokens(ids, traits.vocabulary);
        return std::move(net.run(encoder.inputs(ids, tokens.shape[0], false), encoder.select({{0}, true})).front());
    }
    const Array& x = input("x", 4);
    if (role == Role::denoiser) return evaluate_denoiser(model, x, input("timesteps", 1), inputs);
    if (role == Role::vision_encoder) {
        const auto& vision = net.as<ClipVision>();
        if (x.shape != std::vector<int64_t>{x.shape[0], 3, vision.side(), vision.side()})
            fail(SDCPP_INVALID_ARGUMENT, network, " takes x [N, 3, ", vision.side(), ", ", vision.side(), "]");
        return std::move(net.run({x}, vision.select(ClipVision::Output::vector)).front());
    }
    const bool encodes = role == Role::encoder || role == Role::tiny_encoder;
    const int64_t channels = encodes || role == Role::upscaler ? 3 : space.channels;
    if (x.shape[1] != channels || (encodes && (x.shape[2] % space.factor || x.shape[3] % space.factor)))
        fail(SDCPP_INVALID_ARGUMENT, network, " takes x [N, ", channels, ", H, W]",
             encodes ? " with sides in multiples of the latent factor" : "");
    return net.run({x});
}

}  // namespace sdcpp
