#include <algorithm>
#include <functional>
#include <numeric>

#include "pipeline/checks.h"
#include "pipeline/model.h"

namespace sdcpp {

// One evaluation as a user gives it: x [N, C, H, W], timesteps [N], context [N, T, D] and, where the family takes it,
// an input "pooled" [N, P].
Output Model::evaluate_denoiser(const Input& x, const Input& timesteps, const Input& context,
                                const std::vector<Input>& inputs) {
    const Denoiser& net = denoiser_->as<Denoiser>();
    const int64_t batch = x.shape[0];
    const auto pooled = std::find_if(inputs.begin(), inputs.end(), [](const Input& i) { return i.name == "pooled"; });
    const bool complete = net.pooled_width() == 0 ||
                          (pooled != inputs.end() && pooled->shape == std::vector<int64_t>{batch, net.pooled_width()});
    if (x.shape[1] != net.in_channels() || x.shape[2] % net.multiple() || x.shape[3] % net.multiple() ||
        context.shape[0] != batch || context.shape[2] != net.context_width() || timesteps.shape[0] != batch ||
        !complete)
        fail(SDCPP_INVALID_ARGUMENT, net.name(), " takes x [N, ", net.in_channels(),
             ", H, W] with sides in multiples of ", net.multiple(), ", timesteps [N], context [N, T, ",
             net.context_width(), "]",
             net.pooled_width() > 0 ? " and pooled [N, " + std::to_string(net.pooled_width()) + "]" : "");
    const auto values = [](const Input& from, int64_t row) {
        const int64_t each = std::accumulate(from.shape.begin() + 1, from.shape.end(), int64_t{1}, std::multiplies<>());
        const float* first = static_cast<const float*>(from.data) + row * each;
        return Floats(first, first + each);
    };
    std::vector<Conditioning> said(static_cast<size_t>(batch));
    Noisy noisy;
    noisy.height = x.shape[2];
    noisy.width = x.shape[3];
    noisy.picture_height = static_cast<int>(x.shape[2]) * facts_.latent_factor;
    noisy.picture_width = static_cast<int>(x.shape[3]) * facts_.latent_factor;
    for (int64_t row = 0; row < batch; ++row) {
        Conditioning& one = said[static_cast<size_t>(row)];
        one.states = {{1, 1, context.shape[1], context.shape[2]}, values(context, row)};
        if (net.pooled_width() > 0) one.pooled = values(*pooled, row);
        noisy.items.push_back({&one, false});
        const Floats latent = values(x, row);
        noisy.x.insert(noisy.x.end(), latent.begin(), latent.end());
        noisy.timesteps.push_back(static_cast<const float*>(timesteps.data)[row]);
    }
    Output out = denoiser_->run(net.inputs(noisy));
    return {{batch, net.out_channels(), noisy.height, noisy.width}, net.prediction(std::move(out), noisy)};
}

Output Model::evaluate(const std::string& network, std::vector<Input> inputs) {
    Executor& net = executor(network);
    const auto input = [&](const char* name, size_t dimensions) -> Input& {
        for (Input& one : inputs) {
            if (one.name != name) continue;
            if (one.shape.size() != dimensions)
                fail(SDCPP_INVALID_ARGUMENT, network, ": ", name, " must have ", dimensions, " dimensions");
            for (const int64_t side : one.shape)
                if (side < 1 || side > 65536) fail(SDCPP_INVALID_ARGUMENT, network, ": a side of ", name, " is ", side);
            return one;
        }
        fail(SDCPP_INVALID_ARGUMENT, network, " takes an input ", name);
    };
    for (const auto& text : texts_) {
        if (text.get() != &net) continue;
        const TextEncoder& encoder = net.as<TextEncoder>();
        const TextEncoder::Traits traits = encoder.traits();
        const Input& tokens = input("tokens", 2);
        if (traits.positions > 0 && tokens.shape[1] != traits.positions)
            fail(SDCPP_INVALID_ARGUMENT, "tokens must be [N, ", traits.positions, "]");
        const std::span<const int32_t> ids(static_cast<const int32_t*>(tokens.data),
                                           static_cast<size_t>(tokens.shape[0] * tokens.shape[1]));
        require_tokens(ids, traits.vocabulary);
        return std::move(net.run(encoder.inputs(ids, tokens.shape[0]), encoder.select(1, true, false)).front());
    }
    const Input& x = input("x", 4);
    if (&net == denoiser_.get()) return evaluate_denoiser(x, input("timesteps", 1), input("context", 3), inputs);
    const bool encodes = network.ends_with("encoder");
    const int64_t channels = encodes ? 3 : facts_.latent_channels;
    if (x.shape[1] != channels || (encodes && (x.shape[2] % facts_.latent_factor || x.shape[3] % facts_.latent_factor)))
        fail(SDCPP_INVALID_ARGUMENT, network, " takes x [N, ", channels, ", H, W]",
             encodes ? " with sides in multiples of the latent factor" : "");
    return net.run({x});
}

}  // namespace sdcpp
