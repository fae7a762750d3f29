#include "models/esrgan.h"

#include <memory>
#include <optional>

#include "base/error.h"
#include "nn/layers.h"

namespace sdcpp {
namespace {

ggml_tensor* leaky_relu(Graph& g, ggml_tensor* x) { return ggml_leaky_relu(g.context, x, 0.2f, false); }

// Each convolution sees the input and the results of those before it.
struct DenseBlock {
    Conv2d conv1, conv2, conv3, conv4, conv5;
    std::optional<Conv2d> conv1x1;  // ESRGAN+ (Rakotonirina & Rasoanaivo 2020)

    DenseBlock(const Scope& s, int64_t width, int64_t growth)
        : conv1(s / "conv1", width, growth),
          conv2(s / "conv2", width + growth, growth),
          conv3(s / "conv3", width + 2 * growth, growth),
          conv4(s / "conv4", width + 3 * growth, growth),
          conv5(s / "conv5", width + 4 * growth, width) {
        if (s.has("conv1x1")) conv1x1.emplace(s / "conv1x1", width, growth, 1);
    }

    ggml_tensor* operator()(Graph& g, ggml_tensor* x) const {
        ggml_context* c = g.context;
        ggml_tensor* seen = x;
        const auto next = [&](const Conv2d& conv, ggml_tensor* more) {
            ggml_tensor* made = leaky_relu(g, conv(g, seen));
            if (more) made = ggml_add(c, made, more);
            seen = ggml_concat(c, seen, made, 2);
            return made;
        };
        next(conv1, nullptr);
        ggml_tensor* second = next(conv2, conv1x1 ? (*conv1x1)(g, x) : nullptr);
        next(conv3, nullptr);
        next(conv4, conv1x1 ? second : nullptr);
        return ggml_add(c, ggml_scale(c, conv5(g, seen), 0.2f), x);
    }
};

struct ResidualBlock {
    DenseBlock rdb1, rdb2, rdb3;

    ResidualBlock(const Scope& s, int64_t width, int64_t growth)
        : rdb1(s / "rdb1", width, growth), rdb2(s / "rdb2", width, growth), rdb3(s / "rdb3", width, growth) {}

    ggml_tensor* operator()(Graph& g, ggml_tensor* x) const {
        ggml_tensor* y = rdb3(g, rdb2(g, rdb1(g, x)));
        return ggml_add(g.context, ggml_scale(g.context, y, 0.2f), x);
    }
};

}  // namespace

Esrgan::Esrgan(const ModelFiles& files) : Upscaler(files, "esrgan") {
    const Scope s = root();
    const int64_t in = s.side("conv_first.weight", 1), width = s.side("conv_first.weight", 0),
                  growth = s.side("body.0.rdb1.conv1.weight", 0);
    const int blocks = s.count("body");
    while (shuffle_ * shuffle_ * 3 < in && shuffle_ < 8) shuffle_ *= 2;
    if (shuffle_ * shuffle_ * 3 != in || s.side("conv_last.weight", 0) != 3)
        fail(SDCPP_UNSUPPORTED_MODEL, "an upscaler of ", in, " input channels; pictures have 3");
    int ups = 0;
    while (s.has("conv_up" + std::to_string(ups + 1))) ++ups;
    if (ups > 5 || (int64_t{1} << ups) % shuffle_ != 0)
        fail(SDCPP_UNSUPPORTED_MODEL, "an upscaler that makes pictures smaller");
    scale_ = (int64_t{1} << ups) / shuffle_;

    stage("conv_first", [&] {
        return [conv = std::make_shared<Conv2d>(s / "conv_first", in, width), shuffle = shuffle_](Graph& g, Values& v) {
            v["first"] = v["x"] = (*conv)(g, pixel_unshuffle(g, v.at("x"), shuffle));
        };
    });
    for (int i = 0; i < blocks; ++i)
        stage("body." + std::to_string(i), [&] {
            return [block = std::make_shared<ResidualBlock>(s / "body" / i, width, growth)](Graph& g, Values& v) {
                v["x"] = (*block)(g, v.at("x"));
            };
        });
    stage("conv_body", [&] {
        return [conv = std::make_shared<Conv2d>(s / "conv_body", width, width)](Graph& g, Values& v) {
            v["x"] = ggml_add(g.context, v.at("first"), (*conv)(g, v.at("x")));
        };
    });
    for (int i = 1; i <= ups; ++i)
        stage("conv_up" + std::to_string(i), [&] {
            return [conv = std::make_shared<Conv2d>(s / ("conv_up" + std::to_string(i)), width, width)](
                       Graph& g, Values& v) { v["x"] = leaky_relu(g, (*conv)(g, upsample(g, v.at("x")))); };
        });
    stage("conv_last", [&] {
        auto hr = std::make_shared<Conv2d>(s / "conv_hr", width, width);
        return [hr, last = std::make_shared<Conv2d>(s / "conv_last", width, 3)](Graph& g, Values& v) {
            v["x"] = (*last)(g, leaky_relu(g, (*hr)(g, v.at("x"))));
        };
    });
}

}  // namespace sdcpp
