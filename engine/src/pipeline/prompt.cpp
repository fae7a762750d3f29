#include <algorithm>
#include <cmath>
#include <map>

#include "pipeline/checks.h"
#include "pipeline/prompt.h"
#include "pipeline/text_recipe.h"

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

// An encoder's inputs for tokens of which some are rows of the prompt's own embeddings.
std::vector<Array> inputs_of(const TextEncoder& encoder, std::span<const int32_t> ids, int64_t rows,
                             const PromptTokens& tokens, bool hides_padding) {
    const TextEncoder::Traits traits = encoder.traits();
    std::vector<int32_t> known(ids.begin(), ids.end());
    for (int32_t& id : known)
        if (id >= traits.vocabulary) id = traits.padding;
    std::vector<Array> inputs = encoder.inputs(known, rows, hides_padding);
    const auto x = std::find_if(inputs.begin(), inputs.end(), [](const Array& one) { return one.name == "x"; });
    Floats states(x->floats().begin(), x->floats().end());
    const auto width = static_cast<size_t>(traits.width);
    for (size_t i = 0; i < ids.size(); ++i)
        if (ids[i] >= traits.vocabulary) {
            const auto row = tokens.embeddings.subspan(static_cast<size_t>(ids[i] - traits.vocabulary) * width, width);
            std::copy(row.begin(), row.end(), states.begin() + static_cast<std::ptrdiff_t>(i * width));
        }
    *x = Array::of("x", x->shape, std::move(states));
    return inputs;
}

// States after so many layers as those without so many last ones.
std::vector<int> layers_off(const TextEncoder& encoder, const std::vector<int>& after) {
    const int layers = encoder.traits().layers, most = *std::max_element(after.begin(), after.end());
    if (most > layers)
        fail(SDCPP_UNSUPPORTED_MODEL, "the text encoder ", encoder.name(), " has ", layers,
             " layers; the model takes its states after ", most);
    std::vector<int> out;
    for (const int layer : after) out.push_back(layers - layer);
    return out;
}

Encoded encoded(Executor& executor, const PromptTokens& tokens, const TextEncoder::Wanted& wanted) {
    const TextEncoder& encoder = executor.as<TextEncoder>();
    const TextEncoder::Traits traits = encoder.traits();
    const int64_t positions = traits.positions > 0 ? traits.positions : static_cast<int64_t>(tokens.ids.size());
    const auto count = static_cast<int64_t>(tokens.ids.size());
    if (tokens.chunks < 1 || tokens.chunks > 1000 || count != tokens.chunks * positions || count > max_tokens)
        fail(SDCPP_INVALID_ARGUMENT, encoder.name(), " takes tokens [chunks, ", positions, "] with 1 to 1000 chunks, ",
             max_tokens, " at most");
    for (const int off : wanted.layers_off)
        if (off < 0 || off >= traits.layers)
            fail(SDCPP_INVALID_ARGUMENT, "clip_skip is ", off + 1, "; this text encoder has ", traits.layers,
                 " layers, so 1 to ", traits.layers, " are possible");
    if (!tokens.embeddings.empty() && tokens.embedding_width != traits.width)
        fail(SDCPP_INVALID_ARGUMENT, "embeddings of width ", tokens.embedding_width, " do not fit the text encoder ",
             encoder.name(), ", whose width is ", traits.width);
    const auto own_rows = static_cast<int64_t>(tokens.embeddings.size()) / traits.width;
    require_tokens(tokens.ids, traits.vocabulary + own_rows);
    Encoded out{std::vector<Floats>(wanted.layers_off.size()), {}, count, traits.width};
    const bool pooled = wanted.pooled != TextEncoder::Pooled::no;
    const int chunks = wanted.layers_off.empty() ? 1 : tokens.chunks;  // the first chunk has the pooled vector
    for (int first = 0; first < chunks; first += chunks_together) {
        const int64_t rows = std::min(chunks_together, chunks - first);
        const auto part =
            tokens.ids.subspan(static_cast<size_t>(first * positions), static_cast<size_t>(rows * positions));
        const std::vector<Array> results =
            executor.run(own_rows ? inputs_of(encoder, part, rows, tokens, wanted.hides_padding)
                                  : encoder.inputs(part, rows, wanted.hides_padding),
                         encoder.select(wanted));
        for (size_t depth = 0; depth < out.states.size(); ++depth) {
            Floats states(results[depth].floats().begin(), results[depth].floats().end());
            require_finite(states, "the text encoder's states");
            if (tokens.weights)
                for (int64_t i = 0; i < rows; ++i)
                    weigh({states.data() + i * positions * traits.width, static_cast<size_t>(positions * traits.width)},
                          {tokens.weights + (first + i) * positions, static_cast<size_t>(positions)});
            out.states[depth].insert(out.states[depth].end(), states.begin(), states.end());
        }
        if (pooled && first == 0) {
            const auto row = results.back().row(0);
            out.pooled.assign(row.begin(), row.end());
            require_finite(out.pooled, "the text encoder's states");
        }
    }
    return out;
}

}  // namespace

Conditioning encode_prompt(Model& model, std::span<const PromptTokens> tokens, int clip_skip, bool nothing) {
    const TextRecipe& recipe = model.family.text;
    std::string lacking;
    const auto encoders = text_encoders(model, &lacking);
    if (encoders.empty())
        fail(SDCPP_MISSING_PART, "the model has no text encoder ", lacking, "; give one with ",
             OptionName{"text_encoders", "…"});
    if (tokens.size() != encoders.size())
        fail(SDCPP_INVALID_ARGUMENT, model.family.title, " takes tokens for ", encoders.size(), " text encoders");
    const Denoiser* net = model.denoiser();
    const int64_t wanted_width = net ? net->width_of("context") : 0, wanted_pooled = net ? net->width_of("pooled") : 0;
    if (nothing && recipe.zeros_for_empty_negative && net) {
        const auto count = static_cast<int64_t>(tokens.front().ids.size());
        return conditioning_of(recipe, {1, count, wanted_width}, Floats(static_cast<size_t>(count * wanted_width)),
                               Floats(static_cast<size_t>(wanted_pooled)));
    }

    // each encoder runs once, for all that the recipe takes from it
    EncodedTexts ready;
    for (size_t i = 0; i < encoders.size(); ++i) {
        const std::string_view name = encoders[i]->name();
        TextEncoder::Wanted wanted{{}, false, TextEncoder::Pooled::no};
        for (const auto& row : recipe.context)
            for (const TextStates& one : row) {
                if (one.encoder != name) continue;
                wanted.layers_off = one.layers_off.empty() ? std::vector<int>{clip_skip - 1} : one.layers_off;
                if (!one.layers.empty()) wanted.layers_off = layers_off(*encoders[i], one.layers);
                wanted.normed = one.normed;
                wanted.hides_padding = one.hides_padding;
            }
        for (const TextRecipe::PooledFrom& one : recipe.pooled)
            if (one.encoder == name && (!net || wanted_pooled > 0))
                wanted.pooled = one.projected ? TextEncoder::Pooled::projected : TextEncoder::Pooled::last_state;
        ready.emplace(name, encoded(*model.find(encoders[i]->name()).executor, tokens[i], wanted));
    }

    Conditioning out = assembled(recipe, ready);
    const Conditioning::Item* pooled = out.find("pooled");
    const int64_t pooled_width = pooled ? pooled->array.shape[1] : 0;
    if (net && pooled_width != wanted_pooled)
        fail(SDCPP_UNSUPPORTED_MODEL, "the text encoder says ", pooled_width,
             " values of a whole text, the diffusion model takes ", wanted_pooled, "; they belong to different models");
    return out;
}

Conditioning conditioning_of(const Model& model, const std::vector<Array>& arrays) {
    const Denoiser* net = model.denoiser();
    if (!net) fail(SDCPP_MISSING_PART, "the model has no diffusion model; give a file that holds one");
    Floats values[2];
    std::vector<int64_t> context_shape;
    for (const Denoiser::Taken& taken : net->conditioning()) {
        const auto given =
            std::find_if(arrays.begin(), arrays.end(), [&](const Array& a) { return a.name == taken.name; });
        const bool context = taken.name == "context";
        if (given == arrays.end() || given->shape.size() != (context ? 3 : 2) || given->shape.front() != 1 ||
            given->shape.back() != taken.width || given->count() < 1)
            fail(SDCPP_INVALID_ARGUMENT, "the conditioning is not for this model, which takes ", taken.name, " [1, ",
                 context ? "tokens, " : "", taken.width, "]");
        if (context && given->shape[1] > max_tokens)
            fail(SDCPP_INVALID_ARGUMENT, "the conditioning has ", given->shape[1], " tokens; ", max_tokens,
                 " are possible");
        values[!context].assign(given->floats().begin(), given->floats().end());
        require_finite(values[!context], "the conditioning");
        if (context) context_shape = given->shape;
    }
    return conditioning_of(model.family.text, std::move(context_shape), std::move(values[0]), std::move(values[1]));
}

std::vector<const TextEncoder*> text_encoders(const Model& model, std::string* lacking) {
    std::vector<const TextEncoder*> out;
    for (const std::string_view name : model.family.text.encoders()) {
        const auto found = std::find_if(model.networks.begin(), model.networks.end(),
                                        [&](const auto& one) { return one.name == name; });
        if (found == model.networks.end()) {
            if (lacking) *lacking = name;
            return {};
        }
        out.push_back(&found->executor->as<TextEncoder>());
    }
    return out;
}

std::optional<int64_t> padded_length(const Model& model, const std::string& encoder) {
    const auto length = model.family.text.lengths.find(encoder);
    if (length == model.family.text.lengths.end()) return std::nullopt;
    return length->second(model.files);
}

int64_t text_tokens(const Model& model, int chunks, int64_t usual) {
    int64_t tokens = 0;
    for (const auto& row : model.family.text.context) {
        const std::string name(row.front().encoder);
        const int64_t positions = model.has(name) ? model.find(name).executor->as<TextEncoder>().traits().positions : 0;
        const int64_t own = positions > 0 ? chunks * positions : usual,
                      padded = padded_length(model, name).value_or(own);
        tokens += padded == one_more ? own : padded;
    }
    return tokens;
}

}  // namespace sdcpp
