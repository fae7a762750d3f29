// ESRGAN's generator (Wang et al. 2018, "ESRGAN: enhanced super-resolution generative adversarial networks"), as BSRGAN
// and Real-ESRGAN use it too: residual dense blocks within each other.
#pragma once

#include "models/upscaler.h"

namespace sdcpp {

class Esrgan : public Upscaler {
  public:
    explicit Esrgan(const ModelFiles& files);
    int64_t scale() const override { return scale_; }
    int64_t multiple() const override { return shuffle_; }

  private:
    int64_t scale_ = 1, shuffle_ = 1;
};

}  // namespace sdcpp
