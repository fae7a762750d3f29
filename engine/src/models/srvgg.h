// Real-ESRGAN's compact network (Wang et al. 2021, "Real-ESRGAN", version 3 of the code): convolutions at the small
// size alone, and one step to the large one.
#pragma once

#include "models/upscaler.h"

namespace sdcpp {

class Srvgg : public Upscaler {
  public:
    explicit Srvgg(const ModelFiles& files);
    int64_t scale() const override { return scale_; }

  private:
    int64_t scale_ = 1;
};

}  // namespace sdcpp
