#include "nn/gemm.h"

#include <dlfcn.h>

#include <algorithm>

#include "base/error.h"

namespace sdcpp {
namespace {

constexpr int row_major = 101, as_it_is = 111, transposed = 112;  // as CBLAS numbers them
constexpr size_t line = 16;                                       // floats

size_t padded(size_t floats) { return (floats + line - 1) / line * line; }

}  // namespace

Gemm::Gemm(const std::string& library) {
    // Node-deletion is left to the end of the process: the library may have started threads.
    library_.reset(dlopen(library.c_str(), RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE), [](void* handle) {
        if (handle) dlclose(handle);
    });
    if (!library_) fail(SDCPP_FILE_NOT_FOUND, "the BLAS library cannot be loaded: ", dlerror());
    const auto find = [&](const char* name) { return dlsym(library_.get(), name); };
    product_ = reinterpret_cast<Product>(find("scipy_cblas_sgemm"));
    const auto set_threads = reinterpret_cast<void (*)(int)>(find("scipy_openblas_set_num_threads"));
    if (!product_ || !set_threads) fail(SDCPP_FILE_NOT_FOUND, library, " is not the OpenBLAS of scipy-openblas32");
    set_threads(1);  // ours are at work already
}

void Gemm::multiply(bool b_transposed, int64_t m, int64_t n, int64_t k, float scale, const float* a, int64_t lda,
                    const float* b, int64_t ldb, float keep, float* c, int64_t ldc) const {
    const auto number = [](int64_t value) { return static_cast<int>(value); };
    product_(row_major, as_it_is, b_transposed ? transposed : as_it_is, number(m), number(n), number(k), scale, a,
             number(lda), b, number(ldb), keep, c, number(ldc));
}

Gemm::Scratch::Scratch(const Gemm& owner, size_t floats) : owner_(owner) {
    floats += 16 * line;  // what take() pads
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

float* Gemm::Scratch::take(size_t floats) {
    const auto start = reinterpret_cast<uintptr_t>(memory_.data()) / sizeof(float);
    float* out = memory_.data() + (padded(start) - start) + taken_;
    taken_ += padded(floats);
    return out;
}

void Gemm::trim() const {
    const std::scoped_lock lock(mutex_);
    for (std::vector<float>& memory : free_) memory = {};
}

}  // namespace sdcpp
