// A network's weights on a device for as long as this object lives: mapped from the file where type and layout allow it
// and the device computes in host memory, else converted and copied.
#pragma once

#include <vector>

#include "models/network.h"
#include "runtime/device.h"

namespace sdcpp {

class ResidentWeights {
  public:
    // `wanted` as in stored_type(). Throws SDCPP_OUT_OF_MEMORY.
    ResidentWeights(const Device& device, Network& network, ggml_type wanted);
    ~ResidentWeights();
    ResidentWeights(const ResidentWeights&) = delete;
    ResidentWeights& operator=(const ResidentWeights&) = delete;

    size_t mapped_bytes() const { return mapped_bytes_; }
    size_t copied_bytes() const { return copied_bytes_; }

  private:
    Network& network_;
    ggml_context_ptr mapped_context_, copied_context_;
    std::vector<ggml_backend_buffer_ptr> buffers_;
    size_t mapped_bytes_ = 0, copied_bytes_ = 0;
};

}  // namespace sdcpp
