#include "pipeline/plans.h"

#include <algorithm>

#include "models/text_encoder.h"
#include "pipeline/checks.h"
#include "pipeline/prompt.h"

namespace sdcpp {
namespace {

constexpr int pictures_streamed_together = 16;  // more take more host memory and save little

struct Use {
    std::vector<Array> inputs;
    Selection selection;
};

// A network's inputs for a picture of this size. Their data are zeros, or missing.
Use use_of(Model& model, const std::string& network, const PictureSize& size) {
    const auto& [width, height, batch, guided, chunks, decoding] = size;
    constexpr int64_t usual_tokens = 96;  // a prompt's, if there are no chunks
    const Model::Loaded& loaded = model.find(network);
    Executor& net = *loaded.executor;
    const ModelFacts& facts = model.facts;
    if (batch < 1 || batch > max_together || chunks < 1 || chunks > 1000)
        fail(SDCPP_INVALID_ARGUMENT, "batch is 1 to ", max_together, ", chunks 1 to 1000");
    if (loaded.role == Role::text_encoder) {
        const TextEncoder& encoder = net.as<TextEncoder>();
        const int64_t positions = encoder.traits().positions;
        const int64_t rows = positions > 0 ? std::min(chunks, chunks_together) : 1;
        const int64_t padded = padded_length(model, network).value_or(one_more);
        const int64_t length = positions > 0 ? positions : padded == one_more ? usual_tokens : padded;
        const std::vector<int32_t> tokens(static_cast<size_t>(rows * length));
        return {encoder.inputs(tokens, rows, false), encoder.select({{0}, true})};
    }
    if (loaded.role == Role::vision_encoder) {
        const int64_t side = net.as<ClipVision>().side();
        return {{{"x", GGML_TYPE_F32, {1, 3, side, side}}}, {}};
    }
    model.require_size(width, height);
    const int64_t h = height / facts.latent.factor, w = width / facts.latent.factor;
    if (loaded.role == Role::denoiser) {
        const auto& denoiser = net.as<Denoiser>();
        Conditioning conditioning;
        for (const Denoiser::Taken& taken : denoiser.conditioning()) {
            std::vector<int64_t> shape = {1, taken.width};
            if (taken.name == "context") shape.insert(shape.begin() + 1, text_tokens(model, chunks, usual_tokens));
            Array zeros{taken.name, GGML_TYPE_F32, std::move(shape)};
            zeros = Array::of(taken.name, zeros.shape, Floats(static_cast<size_t>(zeros.count())));
            const bool mixes = model.family.text.mixes_lengths && taken.name == "context";
            conditioning.items.push_back(
                {std::move(zeros), mixes ? Conditioning::Join::pad : Conditioning::Join::equal});
        }
        // a prompt and the negative one are rarely of one length, and are masked then
        Conditioning shorter;
        for (const Conditioning::Item& item : conditioning.items) {
            std::vector<int64_t> shape = item.array.shape;
            const bool masked = model.family.text.mixes_lengths && item.array.name == "context" && shape[1] > 1;
            if (masked) --shape[1];
            Array zeros{item.array.name, GGML_TYPE_F32, shape};
            shorter.items.push_back(
                {Array::of(item.array.name, shape, Floats(static_cast<size_t>(zeros.count()))), item.join});
        }
        const auto count = static_cast<size_t>(batch * (guided ? 2 : 1));
        Noisy noisy;
        noisy.conditionings.assign(count, &conditioning);
        for (size_t row = static_cast<size_t>(batch); row < count; ++row) noisy.conditionings[row] = &shorter;
        noisy.negative.assign(count, false);
        noisy.shape = {denoiser.in_channels(), 1, h, w};
        noisy.x.resize(count * static_cast<size_t>(noisy.shape.count()));
        noisy.timesteps.resize(count);
        noisy.picture_height = height;
        noisy.picture_width = width;
        if (denoiser.takes_guidance()) noisy.more.push_back(Array::of("guidance", {noisy.rows()}, Floats(count)));
        Use use{denoiser.inputs(noisy), {}};
        use.selection = add_controls(model, use.inputs, 0, 1, noisy.negative, false);
        add_ip_adapters(model, use.inputs, 0, 1, noisy.negative, false);
        return use;
    }
    if (loaded.role == Role::encoder) return {{{"x", GGML_TYPE_F32, {1, 3, height, width}}}, {}};
    if (loaded.role != Role::decoder) fail(SDCPP_INVALID_ARGUMENT, "no plan can be shown of '", network, "'");
    const int64_t tile = tile_sides(model, net, static_cast<int>(h), static_cast<int>(w), decoding);
    return {{{"x", GGML_TYPE_F32, {1, facts.latent.channels, tile ? tile : h, tile ? tile : w}}}, {}};
}

}  // namespace

RunReport preview(Model& model, const std::string& network, const PictureSize& size) {
    const Use use = use_of(model, network, size);
    return model.find(network).executor->preview(use.inputs, use.selection);
}

int pictures_together(Model& model, const PictureSize& size) {
    if (!model.denoiser() || size.batch < 2) return 1;
    const auto demand = [&](Role role, bool in_pairs) {
        for (const Model::Loaded& one : model.networks)
            if (one.role == role) {
                const Use use = use_of(model, one.name, {size.width, size.height, 1, in_pairs, 1, size.decode});
                return one.executor->demand(use.inputs, use.selection);
            }
        return Executor::Demand{};
    };
    const Executor::Demand sampling = demand(Role::denoiser, size.guided);
    // Decoding one picture pushes weights out if both networks' do not fit together with the larger workspace.
    const Executor::Demand decoding = demand(Role::decoder, false);
    const uint64_t both = sampling.weights + decoding.weights + std::max(sampling.workspace, decoding.workspace);
    const bool stay = !sampling.streamed && !decoding.streamed && both <= sampling.limit;
    return stay ? 1 : std::min(size.batch, pictures_streamed_together);
}

}  // namespace sdcpp
