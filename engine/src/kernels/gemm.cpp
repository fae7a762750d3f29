#include "kernels/gemm.h"

#include <algorithm>

namespace sdcpp {
namespace {

constexpr size_t line = 16;  // floats that a piece of memory begins at a whole multiple of

size_t padded(size_t floats) { return (floats + line - 1) / line * line; }

}  // namespace

Gemm::Gemm(const GemmChoice& choice)
    : f32_(f32_gemm_kernels(choice.kind, choice.library)), bf16_(choice.bf16 ? bf16_gemm_kernels() : nullptr) {}

Gemm::Scratch::Scratch(const Gemm& owner, int64_t wanted) : owner_(owner) {
    const auto floats = static_cast<size_t>(wanted + padding);
    {
        const std::scoped_lock lock(owner.mutex_);
        if (owner.free_.empty()) {
            owner.free_.reserve(++owner.made_);  // so that giving back cannot fail
        } else {
            memory_ = std::move(owner.free_.back());
            owner.free_.pop_back();
        }
    }
    if (memory_.size() < floats) {
        memory_ = {};  // first, so that there are never two
        memory_ = std::vector<float>(floats);
    }
}

Gemm::Scratch::~Scratch() {
    const std::scoped_lock lock(owner_.mutex_);
    owner_.free_.push_back(std::move(memory_));
}

float* Gemm::Scratch::take(int64_t floats) {
    const auto start = reinterpret_cast<uintptr_t>(memory_.data()) / sizeof(float);
    float* out = memory_.data() + (padded(start) - start) + taken_;
    taken_ += padded(static_cast<size_t>(floats));
    return out;
}

void Gemm::trim() const {
    const std::scoped_lock lock(mutex_);
    for (std::vector<float>& memory : free_) memory = {};
}

}  // namespace sdcpp
