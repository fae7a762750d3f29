#include "models/control_net.h"

#include "base/error.h"
#include "nn/layers.h"

namespace sdcpp {
namespace {

constexpr int64_t type_width = 256;  // number of sinusoids that mark a type

// The convolutions' numbers go up by two. The first and the last keep the sides, as does every other one between.
bool halves(int number, int count) { return number > 0 && number % 2 == 0 && number + 1 < count; }

int hint_convolutions(const Scope& s) {
    int count = 0;
    while (count < 100 && (s / "input_hint_block").has(std::to_string(2 * count))) ++count;
    return count;
}

// [1, C, h, w] to its mean over the places, [1, C].
ggml_tensor* mean_of_places(Graph& g, ggml_tensor* x) {
    ggml_tensor* rows = ggml_reshape_2d(g.context, ggml_cont(g.context, x), x->ne[0] * x->ne[1], x->ne[2] * x->ne[3]);
    return ggml_mean(g.context, rows);
}

// The transformer's block of a union. Its attention is between the pictures of a batch, as the library writes it that
// the released models come from. With one hint that is each picture's own value.
struct TypeBlock {
    LayerNorm ln_1, ln_2;
    Linear value, out_proj, c_fc, c_proj;

    TypeBlock(const Scope& s, int64_t width)
        : ln_1(s / "ln_1", width),
          ln_2(s / "ln_2", width),
          value(s / "attn.v", width, width),
          out_proj(s / "attn.out_proj", width, width),
          c_fc(s / "mlp.c_fc", width, s.side("mlp.c_fc.weight", 0)),
          c_proj(s / "mlp.c_proj", c_fc.out(), width) {}

    ggml_tensor* operator()(Graph& g, ggml_tensor* x) const {
        ggml_context* c = g.context;
        x = ggml_add(c, x, out_proj(g, value(g, ln_1(g, x))));
        ggml_tensor* h = c_fc(g, ln_2(g, x));
        h = ggml_scale(c, ggml_silu(c, ggml_scale(c, h, 1.702f)), 1 / 1.702f);  // h * sigmoid(1.702 h)
        return ggml_add(c, x, c_proj(g, h));
    }
};

ggml_tensor* scale_of(Graph& g, ggml_tensor* scales, size_t number) {
    ggml_tensor* one = ggml_view_2d(g.context, scales, 1, scales->ne[1], scales->nb[1], number * sizeof(float));
    return ggml_cont_4d(g.context, one, 1, 1, 1, scales->ne[1]);
}

}  // namespace

ControlNetShape::ControlNetShape(const ModelFiles& files) {
    WeightList none;
    const Scope s(none, files, "controlnet");
    const UNetShape shape(s, Json());
    model_channels = shape.model_channels;
    in_channels = shape.in_channels;
    context_width = shape.context_width;
    added = shape.added;
    hint_channels = s.side("input_hint_block.0.weight", 1);
    hint_factor = 1;
    const int convolutions = hint_convolutions(s);
    for (int i = 0; i < convolutions; ++i) hint_factor *= halves(i, convolutions) ? 2 : 1;
    if (s.has("task_embedding")) types = s.side("task_embedding", 0);
    for (int i = 0; i < s.count("zero_convs"); ++i) residuals.push_back((s / "zero_convs" / i / 0).side("weight", 0));
    residuals.push_back(s.side("middle_block_out.0.weight", 0));
}

ControlHint::ControlHint(const ModelFiles& files) : Network(files, "controlnet") {
    const Scope s = root();
    const int count = hint_convolutions(s);
    int64_t width = s.side("input_hint_block.0.weight", 1);
    for (int i = 0; i < count; ++i) {
        const Scope here = s / "input_hint_block" / (2 * i);
        const int64_t in = std::exchange(width, here.side("weight", 0));
        stage(here.name(), [&] {
            const bool first = i == 0, last = i + 1 == count;
            return [=, conv = Conv2d(here, in, width, 3, halves(i, count) ? 2 : 1, 1)](Graph& g, Values& v) {
                ggml_tensor* x = conv(g, v.at(first ? "hint" : "x"));
                v["x"] = last ? x : ggml_silu(g.context, x);
            };
        });
    }
    if (!s.has("task_embedding")) return;
    const int64_t types = s.side("task_embedding", 0);
    stage("type", [&] {
        const Weight* tasks = s.weight("task_embedding", WeightKind::vector, {types, width});
        std::vector<TypeBlock> blocks;
        for (int i = 0; i < s.count("transformer_layes"); ++i) blocks.emplace_back(s / "transformer_layes" / i, width);
        return [tasks, blocks, projection = Linear(s / "spatial_ch_projs", width, width)](Graph& g, Values& v) {
            ggml_context* c = g.context;
            ggml_tensor* x = v.at("x");
            ggml_tensor* mean = ggml_reshape_2d(c, mean_of_places(g, x), x->ne[2], 1);
            ggml_tensor* token = ggml_add(c, mean, ggml_get_rows(c, tasks->tensor, v.at("type")));
            for (const TypeBlock& block : blocks) token = block(g, token);
            ggml_tensor* alpha = projection(g, token);
            v["x"] = ggml_add(c, x, ggml_reshape_4d(c, alpha, 1, 1, alpha->ne[0], 1));
        };
    });
}

void declare_control_net(Declaration& declaration, const ModelFiles& files, const Json& config,
                         const std::string& in_front, bool pools) {
    const Scope s = declaration.scope(files, "controlnet");
    UNetBlocks blocks(declaration, s, UNetShape(s, config), in_front);
    const UNetShape& shape = blocks.shape();
    blocks.time_embedding();
    if (s.has("control_add_embedding")) {
        const Scope add = s / "control_add_embedding";
        blocks.stage("control_add_embedding", [&]() -> Run {
            return [in = Linear(add / "linear_1", add.side("linear_1.weight", 1), shape.emb, WeightKind::edge),
                    out = Linear(add / "linear_2", shape.emb, shape.emb, WeightKind::edge)](Graph& g, Values& v) {
                ggml_tensor* more = out(g, ggml_silu(g.context, in(g, v.at("type_waves"))));
                v["emb"] = ggml_add(g.context, v.at("emb"), more);
            };
        });
    }
    if (shape.xl) blocks.added_conditions();
    // A residual of the value "x", added to those that networks before have made.
    const auto residual = [pools](const Scope& layer, size_t number, int64_t width) -> Run {
        return [pools, number, zero = Conv2d(layer, width, width, 1)](Graph& g, Values& v) {
            ggml_context* c = g.context;
            ggml_tensor* x = zero(g, v.at("x"));
            if (pools) x = ggml_reshape_4d(c, mean_of_places(g, x), 1, 1, x->ne[2], x->ne[3]);
            x = ggml_mul(c, x, scale_of(g, v.at("scale"), number));
            ggml_tensor*& sum = v[residual_name(number)];
            sum = !sum ? x : ggml_nelements(sum) < ggml_nelements(x) ? sum_of(g, x, sum) : sum_of(g, sum, x);
        };
    };
    const auto zero_conv = [&](size_t number) { return s / "zero_convs" / static_cast<int>(number) / 0; };
    blocks.first_convolution([&]() -> Run {
        return [more = residual(zero_conv(0), 0, shape.model_channels)](Graph& g, Values& v) {
            v["x"] = sum_of(g, v.at("x"), v.at("hint"));
            more(g, v);
        };
    });
    size_t last = 0;
    blocks.input_blocks([&](size_t entry, int64_t width) {
        last = entry;
        return residual(zero_conv(entry), entry, width);
    });
    blocks.middle_block([&](int64_t width) { return residual(s / "middle_block_out.0", last + 1, width); });
}

std::vector<float> type_waves(int64_t type, int64_t types) {
    std::vector<float> marks(static_cast<size_t>(types), 0.0f);
    if (type >= 0 && type < types) marks[static_cast<size_t>(type)] = 1;
    return sinusoids(marks, type_width);
}

}  // namespace sdcpp
