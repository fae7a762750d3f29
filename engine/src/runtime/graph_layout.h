// Places of a graph's values in memory that many graphs share, one after the other. Values that are needed at the same
// time do not overlap. ggml's own allocator for graphs ends the process if it finds no memory for its notes.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include <ggml-backend.h>

namespace sdcpp {

class GraphLayout {
  public:
    // Lays out the values in `graph` that have no memory yet, for buffers of this type.
    GraphLayout(ggml_cgraph* graph, ggml_backend_buffer_type_t buffers);

    // Bytes in each buffer: one, unless that would pass the largest buffer that the device has.
    const std::vector<uint64_t>& buffer_bytes() const { return buffer_bytes_; }
    uint64_t bytes() const;

    // Gives the graph's values their addresses in `buffers`, and views theirs. False if the device refuses.
    bool apply(const std::vector<ggml_backend_buffer_t>& buffers) const;

  private:
    struct Place {
        ggml_tensor* tensor;
        size_t buffer;
        uint64_t offset;
    };
    std::vector<Place> places_;
    std::vector<ggml_tensor*> views_;
    std::vector<uint64_t> buffer_bytes_;
};

}  // namespace sdcpp
