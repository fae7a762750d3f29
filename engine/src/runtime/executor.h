// Runs a network on a device. Graphs are built once per shape and kept until release().
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "models/network.h"
#include "runtime/device.h"
#include "runtime/resident_weights.h"

namespace sdcpp {

// A value given to a network: `shape` outermost first, `data` contiguous and row-major in `type`.
struct Input {
    std::string name;
    ggml_type type = GGML_TYPE_F32;
    std::vector<int64_t> shape;
    const void* data = nullptr;
};

struct Output {
    std::vector<int64_t> shape;  // always four sides, ones in front
    std::vector<float> data;
};

class Executor {
  public:
    Executor(Device& device, std::unique_ptr<Network> network, ggml_type wanted_type);
    ~Executor();

    const Network& network() const { return *network_; }
    template <typename T>
    const T& as() const {
        return static_cast<const T&>(*network_);
    }

    // Runs `stages` (numbers; empty: all) on `inputs` and returns the value "x". Throws SDCPP_OUT_OF_MEMORY,
    // SDCPP_CANCELLED.
    Output run(const std::vector<Input>& inputs, const std::vector<size_t>& stages = {});

    // Gives graphs and workspace back; weights stay unless `weights` is true (they come back at the next run).
    void release(bool weights = false);

    // Largest workspace since the last call of this function, and weights held now (copied, not mapped).
    size_t take_peak_workspace();
    size_t copied_weight_bytes() const { return weights_ ? weights_->copied_bytes() : 0; }
    size_t mapped_weight_bytes() const { return weights_ ? weights_->mapped_bytes() : 0; }

  private:
    struct Built;
    Built& build(const std::vector<Input>& inputs, const std::vector<size_t>& stages);
    void load();

    Device& device_;
    std::unique_ptr<Network> network_;
    ggml_type wanted_type_;
    std::unique_ptr<ResidentWeights> weights_;
    std::vector<std::unique_ptr<Built>> built_;
    size_t peak_workspace_ = 0;
};

}  // namespace sdcpp
