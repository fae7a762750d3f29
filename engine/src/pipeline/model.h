// A model ready to make pictures: files, networks, device. What a text-to-image run is made of, step by step.
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

#include "models/clip.h"
#include "models/unet.h"
#include "models/vae.h"
#include "runtime/executor.h"
#include "sampling/samplers.h"
#include "sampling/schedule.h"
#include "weights/model_files.h"

namespace sdcpp {

struct ModelOptions {
    std::vector<ModelPath> paths;
    std::string wtype, device = "auto";
    int threads = 0;
    double max_vram =
        std::numeric_limits<double>::quiet_NaN();  // GiB; 0: no budget, < 0: what is free less that; NaN: automatic
    int stream_layers = -1, offload_to_cpu = -1;   // -1: automatic, which is on
    Policy policy = Policy::automatic;
    int gpu_layers = -1;
    Device::Speed speed;  // zeros: measured when needed
    std::string blas;     // see Device
};

struct ModelFacts {
    int latent_channels = 4, latent_factor = 8;
    bool v_prediction = false;
    double scaling_factor = 0.18215;
    int size_multiple = 64;  // pixels
};

struct SampleOptions {
    const Output* cond = nullptr;
    const Output* uncond = nullptr;
    int width = 0, height = 0, steps = 0;
    double cfg_scale = 1, eta = -1;
    std::string sampler, scheduler, rng;
    uint64_t seed = 0;  // of the first picture; the others' rise by one
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
    const ClipText* text_encoder() const { return text_ ? &text_->as<ClipText>() : nullptr; }
    const UNet* unet() const { return unet_ ? &unet_->as<UNet>() : nullptr; }
    bool has(const std::string& network) const;

    // Hidden states [1, chunks * positions, C] of `tokens` [chunks, positions].
    Output encode_prompt(std::span<const int32_t> tokens, const float* weights, int chunks, int clip_skip);
    Floats sample(const SampleOptions& options);
    // Picture [3, h*f, w*f] in -1..1 from a latent [C, h, w].
    Floats decode(const DecodeOptions& options, std::span<const float> latent, int height, int width);
    // Mean of the latent of a picture [3, height, width] in -1..1, scaled.
    Floats encode(std::span<const float> picture, int height, int width);
    Output evaluate(const std::string& network, std::vector<Input> inputs);

    // A generation begins: budgets that follow free memory are read again.
    void begin();
    // The plan of "clip_l", "unet" or "vae.decoder" for a picture of this size; nothing is loaded.
    RunReport preview(const std::string& network, int width, int height, int batch, bool guided, int chunks);
    // What a network did since the last call; nothing where it has not run.
    std::optional<RunReport> take_report(const std::string& network);

    void cancel() { cancelled_ = true; }
    // Bytes: the most held at a time since the last call, in all and by class, and what is mapped from files.
    struct Memory {
        DeviceMemory::Bytes peak;
        uint64_t mapped = 0;
    };
    Memory take_memory();

    // One call at a time; clears an earlier cancel.
    [[nodiscard]] std::unique_lock<std::mutex> start();

  private:
    Executor& need(const std::unique_ptr<Executor>& executor, const char* what) const;
    Executor& executor(const std::string& network) const;
    Floats predict(const Floats& x, double sigma, const Output& context, int repeats);
    int tile_sides(Executor& decoder, int height, int width, const DecodeOptions& options);
    void require_size(int width, int height) const;
    std::vector<Executor*> executors() const;

    ModelOptions options_;
    ModelFiles files_;
    std::atomic<bool> cancelled_{false};
    std::mutex mutex_;
    Device device_;
    ModelFacts facts_;
    NoiseTable table_;
    std::unique_ptr<Executor> text_, unet_, decoder_, encoder_, tiny_decoder_, tiny_encoder_;
    int latent_width_ = 0, latent_height_ = 0, batch_ = 1;
};

}  // namespace sdcpp
