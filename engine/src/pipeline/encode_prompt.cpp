#include <algorithm>
#include <cmath>

#include "pipeline/checks.h"
#include "pipeline/model.h"

namespace sdcpp {
namespace {

// Multiplies each token's states by its weight and restores the mean of them all.
void weigh(std::span<float> states, std::span<const float> weights) {
    const auto mean = [&] {
        double sum = 0;
        for (const float value : states) sum += value;
        return sum / static_cast<double>(states.size());
    };
    const double before = mean();
    const size_t width = states.size() / weights.size();
    for (size_t i = 0; i < states.size(); ++i) states[i] *= weights[i / width];
    const double after = mean();
    // a mean that vanishes cannot be restored by a factor
    if (const double ratio = before / after; std::isfinite(ratio) && ratio > 0 && ratio < 100)
        for (float& value : states) value = static_cast<float>(value * ratio);
}

}  // namespace

// One text encoder's states [1, 1, T, C], and what it says of the whole text into `pooled` where that is not null.
Output Model::encode_states(Executor& executor, const PromptTokens& tokens, int clip_skip, Floats* pooled) {
    const TextEncoder& encoder = executor.as<TextEncoder>();
    const TextEncoder::Traits traits = encoder.traits();
    const int64_t positions = traits.positions > 0 ? traits.positions : static_cast<int64_t>(tokens.ids.size());
    const auto count = static_cast<int64_t>(tokens.ids.size());
    if (tokens.chunks < 1 || tokens.chunks > 1000 || count != tokens.chunks * positions || count > most_tokens)
        fail(SDCPP_INVALID_ARGUMENT, encoder.name(), " takes tokens [chunks, ", positions, "] with 1 to 1000 chunks, ",
             most_tokens, " at most");
    if (clip_skip < 1 || clip_skip > traits.layers)
        fail(SDCPP_INVALID_ARGUMENT, "clip_skip is ", clip_skip, "; this text encoder has ", traits.layers,
             " layers, so 1 to ", traits.layers, " are possible");
    require_tokens(tokens.ids, traits.vocabulary);
    Output all;
    all.shape = {1, 1, count, traits.width};
    for (int first = 0; first < tokens.chunks; first += chunks_together) {
        const int64_t rows = std::min(chunks_together, tokens.chunks - first);
        const auto part =
            tokens.ids.subspan(static_cast<size_t>(first * positions), static_cast<size_t>(rows * positions));
        std::vector<Output> out = executor.run(encoder.inputs(part, rows),
                                               encoder.select(clip_skip, family_.normed_states, pooled != nullptr));
        Floats& states = out.front().data;
        require_finite(states, "the text encoder's states");
        if (tokens.weights)
            for (int64_t i = 0; i < rows; ++i)
                weigh({states.data() + i * positions * traits.width, static_cast<size_t>(positions * traits.width)},
                      {tokens.weights + (first + i) * positions, static_cast<size_t>(positions)});
        all.data.insert(all.data.end(), states.begin(), states.end());
        if (pooled && first == 0) {  // of a long text, its beginning
            const Output& whole = out.back();
            pooled->assign(whole.data.begin(), whole.data.begin() + whole.shape.back());
        }
    }
    return all;
}

Conditioning Model::encode_prompt(std::span<const PromptTokens> tokens, int clip_skip, bool nothing) {
    std::string lacking;
    const auto encoders = text_encoders(&lacking);
    if (encoders.empty())
        fail(SDCPP_MISSING_PART, "the model has no text encoder ", lacking, "; give one with text_encoders=…");
    if (tokens.size() != encoders.size())
        fail(SDCPP_INVALID_ARGUMENT, family_.title, " takes tokens for ", encoders.size(), " text encoders");
    Conditioning out;
    if (nothing && family_.zeros_for_nothing && denoiser_) {
        const Denoiser& net = denoiser_->as<Denoiser>();
        const auto count = static_cast<int64_t>(tokens.front().ids.size());
        out.states.shape = {1, 1, count, net.context_width()};
        out.states.data.resize(static_cast<size_t>(count * net.context_width()));
        out.pooled.resize(static_cast<size_t>(net.pooled_width()));
        return out;
    }
    std::vector<Output> parts;
    const bool pooled = denoiser_ && denoiser_->as<Denoiser>().pooled_width() > 0;
    for (size_t i = 0; i < encoders.size(); ++i) {
        const bool last = i + 1 == encoders.size();
        parts.push_back(
            encode_states(executor(encoders[i]->name()), tokens[i], clip_skip, pooled && last ? &out.pooled : nullptr));
        if (parts[i].shape[2] != parts[0].shape[2])
            fail(SDCPP_INVALID_ARGUMENT, "a prompt must have as many chunks for every text encoder");
    }
    if (pooled && static_cast<int64_t>(out.pooled.size()) != denoiser_->as<Denoiser>().pooled_width())
        fail(SDCPP_UNSUPPORTED_MODEL, "the text encoder says ", out.pooled.size(),
             " values of a whole text, the UNet takes ", denoiser_->as<Denoiser>().pooled_width(),
             "; they belong to different models");
    if (parts.size() == 1) {
        out.states = std::move(parts.front());
        return out;
    }
    out.states.shape = parts.front().shape;
    out.states.shape[3] = 0;
    for (const Output& part : parts) out.states.shape[3] += part.shape[3];
    for (int64_t token = 0; token < out.states.shape[2]; ++token)
        for (const Output& part : parts) {
            const auto row = part.data.begin() + token * part.shape[3];
            out.states.data.insert(out.states.data.end(), row, row + part.shape[3]);
        }
    return out;
}

}  // namespace sdcpp
