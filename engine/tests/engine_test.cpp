// The engine's own tests: a handful of statements about the layers below the C interface. Prints ctest's plain result.
#include <cmath>
#include <cstdio>
#include <cstring>
#include <functional>
#include <limits>

#include "base/error.h"
#include "device/device.h"
#include "generation/samplers.h"
#include "generation/schedule.h"
#include "io/json.h"
#include "io/tensor_file.h"
#include "nn/layers.h"
#include "pipeline/tiling.h"
#include "weights/names.h"
#include "weights/weight.h"

using namespace sdcpp;

namespace {

int failures = 0;

void check(bool holds, const char* what) {
    if (holds) return;
    std::printf("FAILED: %s\n", what);
    ++failures;
}

bool throws(sdcpp_status status, const std::function<void()>& body) {
    try {
        body();
    } catch (const Error& error) {
        return error.status() == status;
    }
    return false;
}

TensorFile read(const std::string& content) {
    const auto* first = reinterpret_cast<const std::byte*>(content.data());
    return read_tensor_file(
        std::make_shared<const MappedFile>("test", std::vector<std::byte>(first, first + content.size())));
}

std::string safetensors(const std::string& header, size_t data) {
    std::string out(8, '\0');
    const uint64_t size = header.size();
    std::memcpy(out.data(), &size, 8);
    return out + header + std::string(data, '\0');
}

void json_is_strict() {
    check(*Json::parse(R"({"a":[1,2.5,"x\u00e9\ud83d\ude00"],"b":null})")["a"].array()->at(0).integer() == 1,
          "numbers");
    check(*Json::parse(R"("\ud83d\ude00")").string() == "\xF0\x9F\x98\x80", "surrogate pairs become one letter");
    for (const char* bad :
         {"", "{", "[1,]", "{\"a\"}", "nul", "1 2", "\"\\x\"", "{\"a\":1,\"a\":2}", "\"\\ud83d\\u0041\"", "-", "+1x"})
        check(throws(SDCPP_BAD_FILE, [&] { (void)Json::parse(bad); }), bad);
    check(throws(SDCPP_BAD_FILE, [] { (void)Json::parse(std::string(100000, '[')); }), "depth is bounded");
}

void readers_trust_nothing() {
    const std::string good = safetensors(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})", 8);
    check(read(good).tensors.at(0).bytes.size() == 8, "a good file");
    for (size_t size = 1; size < good.size(); ++size)
        check(throws(SDCPP_BAD_FILE, [&] { (void)read(good.substr(0, size)); }), "every shorter file is refused");
    check(throws(SDCPP_BAD_FILE,
                 [] { (void)read(safetensors(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,9]}})", 9)); }),
          "sizes agree");
}

void formats_convert_exactly() {
    std::vector<std::byte> all(256);
    for (size_t i = 0; i < 256; ++i) all[i] = static_cast<std::byte>(i);
    std::vector<float> values(256), again(256);
    for (const DType type : {DType::f8_e4m3, DType::f8_e5m2}) {
        to_f32(type, all.data(), values.data(), 256);
        bool exact = true;
        for (size_t i = 0; i < 256; ++i) {
            const float half = ggml_fp16_to_fp32(ggml_fp32_to_fp16(values[i]));
            exact = exact && (half == values[i] || std::isnan(values[i]));
        }
        check(exact, "every f8 value is an f16 value");
    }
    to_f32(DType::f8_e4m3, all.data(), values.data(), 256);
    check(values[0x7E] == 448 && values[0x38] == 1 && values[1] == std::ldexp(1.0f, -9) && std::isnan(values[0x7F]),
          "f8_e4m3's landmarks");
}

// For data of variance 1 the clean estimate is x / (1 + sigma^2), and the exact path ends at x / sqrt(1 + sigma_max^2).
void samplers_converge_to_the_exact_solution() {
    for (const std::string& name : sampler_names()) {
        if (name == "lcm") continue;
        const auto rng = make_rng("cuda", 1);
        const auto denoise = [](const Floats& x, double sigma) {
            Floats out(x);
            for (float& value : out) value = static_cast<float>(value / (1 + sigma * sigma));
            return out;
        };
        SamplerRun run{denoise, make_sigmas("karras", 200, NoiseTable()), *rng, 0.0};
        const double first = run.sigmas.front();
        Floats x = {static_cast<float>(first)};
        run_sampler(name, run, x);
        check(std::abs(x[0] - first / std::sqrt(1 + first * first)) < 0.02, name.c_str());
    }
}

void schedules_fall_to_zero() {
    NoiseTable diffusion;
    diffusion.aligned_sigmas = {14.6, 1, 0.03};
    for (const NoiseTable& table :
         {diffusion, NoiseTable("scaled_linear", 0.00085, 0.012, 1000, true), NoiseTable::flow(3)})
        for (const std::string& name : scheduler_names()) {
            if (name == "ays" && table.aligned_sigmas.empty()) continue;
            for (const int steps : {1, 2, 7, 50, 999}) {
                const auto sigmas = make_sigmas(name, steps, table);
                bool falls = sigmas.back() == 0 && sigmas.size() >= 2;
                for (size_t i = 0; i + 1 < sigmas.size(); ++i) falls = falls && sigmas[i] > sigmas[i + 1];
                check(falls, name.c_str());
            }
        }
    check(throws(SDCPP_INVALID_ARGUMENT, [] { (void)make_sigmas("karras", 0, NoiseTable()); }), "steps 0");
    const NoiseTable table;
    for (const double t : {0.0, 1.5, 500.0, 998.25, 999.0})
        check(std::abs(table.timestep_of(table.sigma_of(t)) - t) < 1e-6, "timesteps and sigmas agree");
}

void tiles_cover_and_blend() {
    for (const int side : {1, 8, 63, 64, 65, 97, 128, 1000}) {
        const auto starts = tile_starts(side, 64, 16);
        bool covered = starts.front() == 0 && starts.back() + 64 >= side;
        for (size_t i = 0; i + 1 < starts.size(); ++i) covered = covered && starts[i + 1] - starts[i] <= 48;
        check(covered, "tiles cover the side and overlap");
    }
    // a decoder that only enlarges is the same in tiles
    const int height = 20, width = 30;
    std::vector<float> latent(static_cast<size_t>(height * width));
    for (size_t i = 0; i < latent.size(); ++i) latent[i] = std::sin(static_cast<float>(i));
    const auto enlarge = [](const std::vector<float>& x, int h, int w) {
        std::vector<float> out;
        for (int y = 0; y < 2 * h; ++y)
            for (int c = 0; c < 2 * w; ++c) out.push_back(x[static_cast<size_t>(y / 2 * w + c / 2)]);
        return out;
    };
    const auto whole = enlarge(latent, height, width);
    const auto tiled = decode_tiled({8, 3, 2, 1, 1}, latent, height, width, enlarge);
    float worst = 0;
    for (size_t i = 0; i < whole.size(); ++i) worst = std::max(worst, std::abs(whole[i] - tiled[i]));
    check(worst < 1e-5f, "tiles blend to the whole");
}

// What `build` makes on the processor, with random numbers in its first tensors [0, inputs).
std::vector<float> computed(const Kernels& kernels, size_t inputs,
                            const std::function<ggml_tensor*(Graph&, std::vector<ggml_tensor*>&)>& build) {
    const std::atomic<bool> cancelled{false};
    Device device("CPU", 1, &cancelled);
    const ggml_context_ptr context(ggml_init({4 << 20, nullptr, true}));
    CustomOperations custom;
    Graph g{context.get(), kernels, custom};
    std::vector<ggml_tensor*> given;
    ggml_tensor* out = build(g, given);
    ggml_cgraph* graph = ggml_new_graph_custom(g.context, 4096, false);
    ggml_build_forward_expand(graph, out);
    const ggml_backend_buffer_ptr buffer(ggml_backend_alloc_ctx_tensors_from_buft(g.context, device.buffer_type()));
    const auto rng = make_rng("cuda", 1);
    for (size_t i = 0; i < inputs; ++i) {
        std::vector<float> values(static_cast<size_t>(ggml_nelements(given[i])));
        rng->normal(values);
        ggml_backend_tensor_set(given[i], values.data(), 0, ggml_nbytes(given[i]));
    }
    for (size_t i = inputs; i < given.size(); ++i) {  // masks that hide one key from each query
        std::vector<ggml_fp16_t> hidden(static_cast<size_t>(ggml_nelements(given[i])), ggml_fp32_to_fp16(0));
        for (int64_t row = 0; row < given[i]->ne[1]; ++row)
            hidden[static_cast<size_t>(row * given[i]->ne[0] + row)] =
                ggml_fp32_to_fp16(-std::numeric_limits<float>::infinity());
        ggml_backend_tensor_set(given[i], hidden.data(), 0, ggml_nbytes(given[i]));
    }
    device.compute(graph);
    std::vector<float> result(static_cast<size_t>(ggml_nelements(out)));
    ggml_backend_tensor_get(out, result.data(), 0, ggml_nbytes(out));
    return result;
}

float largest_difference(const std::vector<float>& a, const std::vector<float>& b) {
    if (a.size() != b.size()) return std::numeric_limits<float>::infinity();
    float worst = 0;
    for (size_t i = 0; i < a.size(); ++i) worst = std::max(worst, std::abs(a[i] - b[i]));
    return worst;
}

// Tiles of scores, heads filled up with zeros and keys rounded ahead give the plain flash kernel's numbers.
void ways_of_attention_agree() {
    const auto with = [](const Kernels& kernels) {
        return computed(kernels, 3, [](Graph& g, std::vector<ggml_tensor*>& given) {
            for (const int64_t tokens : {17, 20, 20})
                given.push_back(ggml_new_tensor_3d(g.context, GGML_TYPE_F32, 32, tokens, 2));
            given.push_back(ggml_new_tensor_2d(g.context, GGML_TYPE_F16, 20, 17));
            return attention(g, given[0], given[1], given[2], 4, given[3]);
        });
    };
    const auto expected = with({});
    Kernels tiles;
    tiles.score_tile_bytes = 3 * 20 * 4 * sizeof(float);  // three queries at a time
    tiles.supports = [](const ggml_tensor* op) { return op->op != GGML_OP_FLASH_ATTN_EXT; };
    check(expected.size() == 32 * 17 * 2 && largest_difference(with(tiles), expected) < 1e-5f,
          "tiled attention equals the flash kernel");
    Kernels padded;
    padded.fast_head_sizes = {16};
    check(largest_difference(with(padded), expected) < 1e-5f, "zeros in the heads change nothing");
    Kernels rounded;
    rounded.f16_attention = true;
    check(largest_difference(with(rounded), expected) < 5e-3f, "keys and values in f16 are close");
}

void unrolled_convolutions_equal_direct_ones() {
    for (const int kernel : {1, 3})
        for (const int stride : {1, 2})
            for (const int padding : {0, kernel / 2})
                for (const int64_t batch : {1, 3})
                    for (const size_t patch_bytes : {size_t{1}, size_t{4000}, size_t{1} << 20}) {
                        const auto with = [&](bool unrolled) {
                            Kernels kernels;
                            kernels.patch_bytes = patch_bytes;
                            return computed(kernels, 2, [&](Graph& g, std::vector<ggml_tensor*>& given) {
                                given = {ggml_new_tensor_4d(g.context, GGML_TYPE_F32, kernel, kernel, 5, 7),
                                         ggml_new_tensor_4d(g.context, GGML_TYPE_F32, 10, 9, 5, batch)};
                                return unrolled ? unrolled_convolution(g, given[0], given[1], stride, padding)
                                                : ggml_conv_2d_direct(g.context, given[0], given[1], stride, stride,
                                                                      padding, padding, 1, 1);
                            });
                        };
                        check(largest_difference(with(true), with(false)) < 1e-4f, "convolutions agree");
                    }
}

}  // namespace

int main() {
    const std::vector<std::function<void()>> tests = {json_is_strict,          readers_trust_nothing,
                                                      formats_convert_exactly, samplers_converge_to_the_exact_solution,
                                                      schedules_fall_to_zero,  tiles_cover_and_blend,
                                                      ways_of_attention_agree, unrolled_convolutions_equal_direct_ones};
    for (const auto& test : tests) test();
    std::printf("%zu groups of checks, %d failures\n", tests.size(), failures);
    return failures ? 1 : 0;
}
