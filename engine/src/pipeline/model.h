// A model ready to run: its files, its networks by role, and the device that they share. Tasks are free functions over
// it, one file each.
#pragma once

#include <atomic>
#include <limits>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "families/family.h"
#include "generation/denoise.h"
#include "generation/latent.h"
#include "generation/schedule.h"
#include "models/denoiser.h"
#include "pipeline/controls.h"
#include "pipeline/ip_adapters.h"
#include "pipeline/scheduler_config.h"
#include "runtime/executor.h"
#include "runtime/memory.h"
#include "weights/adapters/adapter_set.h"
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
    SchedulerConfig scheduler;  // a diffusers folder's
    Predicts predicts = Predicts::noise;
    int size_multiple = 64;  // pixels
};

struct Model {
    explicit Model(const ModelOptions& options);

    // A network of the files, by its name. Throws SDCPP_MISSING_PART, or SDCPP_INVALID_ARGUMENT for an unknown name.
    struct Loaded {
        std::string name;
        Role role;
        std::unique_ptr<Executor> executor;
    };
    const Loaded& find(const std::string& network) const;
    bool has(const std::string& network) const;
    // The first of a role; null if there is none, or SDCPP_MISSING_PART.
    Executor* by_role(Role role) const;
    Executor& need(Role role) const;
    const Denoiser* denoiser() const;
    // Runs a network by the model's options, under its budget.
    std::unique_ptr<Executor> executor_of(std::unique_ptr<Network> network);

    // The value of a generation option: the config's, else the family's; "" if neither has one.
    std::string default_of(const std::string& option) const;
    // Throws SDCPP_INVALID_ARGUMENT unless pictures of so many pixels can be made.
    void require_size(int width, int height) const;

    // One call at a time; clears an earlier cancel.
    [[nodiscard]] std::unique_lock<std::mutex> start();

    const ModelOptions options;
    const ModelFiles files;
    std::atomic<bool> cancelled{false};
    std::mutex mutex;
    Device device;
    Memory memory;
    Profile profile;
    const Family& family;
    ModelFacts facts;
    NoiseTable diffusion;  // unless the family is a flow
    std::vector<Control> controls;
    std::vector<IpAdapterInUse> ip_adapters;
    std::vector<Loaded> networks;  // as they run
    AdapterSet adapters;           // its networks are numbered as these
};

}  // namespace sdcpp
