// Compute time by network, stage and kind of operation.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <tuple>
#include <vector>

#include "device/device.h"
#include "runtime/flow.h"

namespace sdcpp {

struct ProfileRow {
    std::string network, stage, operation;
    uint64_t runs = 0;
    double seconds = 0;
    double flops = 0, bytes = 0;  // multiplications and additions; values read and written
};

class Profile {
  public:
    // Runs `graph` one operation at a time, each to its end.
    void compute(Device& device, const std::string& network, const SegmentGraph& graph,
                 const std::function<bool()>& must_stop);
    // The rows since the last call, in the order of their first runs.
    std::vector<ProfileRow> take();

  private:
    using Key = std::tuple<std::string, std::string, std::string>;
    std::vector<ProfileRow> rows_;
    std::map<Key, size_t> known_;
};

}  // namespace sdcpp
