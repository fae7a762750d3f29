// A model ready to make pictures: files, networks, device, and the steps of a text-to-image run.
#pragma once

#include <atomic>
#include <functional>
#include <limits>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "families/family.h"
#include "generation/denoise.h"
#include "generation/latent.h"
#include "generation/schedule.h"
#include "models/denoiser.h"
#include "models/text_encoder.h"
#include "models/vae.h"
#include "runtime/executor.h"
#include "runtime/memory.h"
#include "weights/model_files.h"

namespace sdcpp {

struct ModelOptions {
    std::vector<ModelPath> paths;
    std::string wtype, tensor_type_rules, device = "auto";
    int threads = 0;
    double max_vram = std::numeric_limits<double>::quiet_NaN();  // as Budget::from_gib() takes it
    int stream_layers = -1, offload_to_cpu = -1;                 // -1: automatic, which is on
    Policy policy = Policy::automatic;
    int gpu_layers = -1;
    Device::Speed speed;  // zeros: measured when needed
    GemmChoice gemm;      // see Device
    bool profile = false, whole_process = false;
};

// Facts from config, tensors and family.
struct ModelFacts {
    LatentSpace latent;
    Predicts predicts = Predicts::noise;
    int size_multiple = 64;  // pixels
};

// A prompt's tokens for one text encoder.
struct PromptTokens {
    std::span<const int32_t> ids;  // [chunks, positions], or [count] if any number is possible
    const float* weights = nullptr;
    int chunks = 1;
};

struct PromptShare {
    const Conditioning* conditioning = nullptr;
    Guide guide;
};

struct SampleOptions {
    std::vector<PromptShare> shares;
    int width = 0, height = 0, steps = 0;
    double cfg_scale = 1, eta = -1;
    double flow_shift = 0;  // 0: the model's own
    float guidance = 3.5f;  // for denoisers that were distilled to take it
    std::string sampler, scheduler, rng;
    uint64_t seed = 0;  // the first picture's; the others' rise by one
    int batch = 1;      // pictures that are sampled step by step together
    const float* noise = nullptr;
    // (step from 1, steps, seconds since the start, clean estimate); false stops.
    std::function<bool(int, int, double, const Floats&)> callback;
};

struct DecodeOptions {
    int tiling = -1, tile = 0;
    double overlap = -1;
    bool taesd = false;
};

class Model {
  public:
    explicit Model(const ModelOptions& options);

    const ModelFiles& files() const { return files_; }
    const ModelFacts& facts() const { return facts_; }
    const Device& device() const { return device_; }
    const Family& family() const { return family_; }
    // The encoders that the family takes, in its order; empty if one is missing, whose name is then in `lacking`.
    std::vector<const TextEncoder*> text_encoders(std::string* lacking = nullptr) const;
    // The tokens that the family pads an encoder's prompts to.
    std::optional<int64_t> filled_length(const std::string& encoder) const;
    // The file in which an encoder's table of embeddings lies.
    std::filesystem::path file_of(const TextEncoder& encoder) const { return encoder.table_file().path(); }
    const Denoiser* denoiser() const { return denoiser_ ? &denoiser_->as<Denoiser>() : nullptr; }
    bool has(const std::string& network) const;
    // Names of its networks, as they run.
    std::vector<std::string> networks() const;
    // A generation option's default: the config's, else the family's; "" if neither has one.
    std::string default_of(const std::string& option) const;

    // `tokens` for each of text_encoders(). `nothing`: the prompt is an empty negative one.
    Conditioning encode_prompt(std::span<const PromptTokens> tokens, int clip_skip, bool nothing);
    Floats sample(const SampleOptions& options);
    // Picture [3, h*f, w*f] in -1..1 from a latent [C, h, w].
    Floats decode(const DecodeOptions& options, std::span<const float> latent, int height, int width);
    // Mean of the latent of a picture [3, height, width] in -1..1, scaled.
    Floats encode(std::span<const float> picture, int height, int width);
    Array evaluate(const std::string& network, std::vector<Array> inputs);

    // A generation begins: budgets that follow free memory are read again.
    void begin();
    // How many of `count` pictures are best sampled together: all, up to a bound, if weights would be loaded again for
    // each picture under the budget; otherwise 1.
    int pictures_together(int width, int height, int count, bool guided);
    // The plan of a text encoder, the denoiser or "vae.decoder" for a picture of this size; nothing is loaded.
    RunReport preview(const std::string& network, int width, int height, int batch, bool guided, int chunks);
    // A network's runs since the last call; nothing if it has not run.
    std::optional<RunReport> take_report(const std::string& network);

    // Empty unless the options asked for it.
    std::vector<ProfileRow> take_profile() { return profile_.take(); }

    void cancel() { cancelled_ = true; }
    // Bytes: the peak since the last call, in all and by class, and the bytes mapped from files.
    struct Memory {
        DeviceMemory::Bytes peak;
        uint64_t mapped = 0;
    };
    Memory take_memory();

    // One call at a time; clears an earlier cancel.
    [[nodiscard]] std::unique_lock<std::mutex> start();

  private:
    struct NamedExecutor {
        std::string name;
        Role role;
        std::unique_ptr<Executor> executor;
    };
    const NamedExecutor& find(const std::string& network) const;
    Executor& executor(const std::string& network) const { return *find(network).executor; }
    Executor* by_role(Role role) const;
    Executor& need(Role role) const;
    int64_t text_width() const;
    int64_t text_tokens(int chunks, int64_t usual) const;
    NoiseTable noise_table(const SampleOptions& options) const;
    Array evaluate_denoiser(const Array& x, const Array& timesteps, const std::vector<Array>& inputs);
    struct Use {
        std::vector<Array> inputs;
        Selection selection;
    };
    Use use_of(const std::string& network, int width, int height, int batch, bool guided, int chunks);
    int tile_sides(Executor& decoder, int height, int width, const DecodeOptions& options);
    void require_size(int width, int height) const;
    std::vector<Executor*> executors() const;

    ModelOptions options_;
    ModelFiles files_;
    std::atomic<bool> cancelled_{false};
    std::mutex mutex_;
    Device device_;
    sdcpp::Memory memory_;
    Profile profile_;
    const Family& family_;
    ModelFacts facts_;
    NoiseTable diffusion_;                 // unless the family is a flow
    std::vector<NamedExecutor> networks_;  // as they run
    Executor* denoiser_ = nullptr;
};

}  // namespace sdcpp
