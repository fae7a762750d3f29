#include "kernels/openblas.h"

#include <dlfcn.h>

#include <algorithm>
#include <bit>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <optional>

#include "base/error.h"

namespace sdcpp {
namespace {

constexpr int row_major = 101, as_it_is = 111;  // as CBLAS numbers them

// A packed matrix is b's rows without gaps. Every product runs on the thread that asks for it.
class OpenBlas final : public GemmKernels {
  public:
    explicit OpenBlas(const std::string& library) : GemmKernels(1, 1) {
        library_.reset(load(library), [](void* handle) {
            if (handle) dlclose(handle);
        });
        if (!library_) fail(SDCPP_FILE_NOT_FOUND, "the BLAS library cannot be loaded: ", dlerror());
        const auto find = [&](const char* name) { return dlsym(library_.get(), name); };
        product_ = reinterpret_cast<Product>(find("scipy_cblas_sgemm"));
        const auto set_threads = reinterpret_cast<void (*)(int)>(find("scipy_openblas_set_num_threads"));
        if (!product_ || !set_threads) fail(SDCPP_FILE_NOT_FOUND, library, " is not the OpenBLAS of scipy-openblas32");
        set_threads(1);  // ours are at work already
    }

    void multiply(int64_t m, int64_t n, int64_t units, const Unit* a, int64_t lda, const Unit* b, float* c, int64_t ldc,
                  const float* bias, bool add) const override {
        const auto number = [](int64_t value) { return static_cast<int>(value); };
        const bool keep = add || bias;
        if (bias && !add)
            for (int64_t row = 0; row < m; ++row) std::copy_n(bias, n, c + row * ldc);
        product_(row_major, as_it_is, as_it_is, number(m), number(n), number(units), 1,
                 reinterpret_cast<const float*>(a), number(lda), reinterpret_cast<const float*>(b), number(n),
                 keep ? 1.0f : 0.0f, c, number(ldc));
    }

    void pack(const float* b, int64_t ld, int64_t k, int64_t n, Unit* out) const override {
        for (int64_t row = 0; row < k; ++row) convert(b + row * ld, n, out + row * n);
    }

    void pack_transposed(const float* b, int64_t ld, int64_t k, int64_t n, Unit* out) const override {
        constexpr int64_t block = 16;
        for (int64_t from = 0; from < k; from += block)
            for (int64_t column = 0; column < n; ++column)
                for (int64_t row = from; row < std::min(k, from + block); ++row)
                    out[row * n + column] = std::bit_cast<Unit>(b[column * ld + row]);
    }

    void place(const float* values, int64_t ld, int64_t matrices, int64_t row, int64_t column, int64_t count, int64_t,
               int64_t n, Unit* packed, int64_t apart) const override {
        for (int64_t i = 0; i < matrices; ++i) convert(values + i * ld, count, packed + i * apart + row * n + column);
    }

    void convert(const float* row, int64_t k, Unit* out) const override {
        std::memcpy(out, row, static_cast<size_t>(k) * sizeof(Unit));
    }

  private:
    // The library starts threads of its own as it is loaded, unless the environment says not to. It stays loaded, since
    // it may have threads, so that this concerns its first loading alone.
    static void* load(const std::string& library) {
        static std::mutex mutex;
        const std::scoped_lock lock(mutex);
        constexpr const char* name = "OPENBLAS_NUM_THREADS";
        if (void* there = dlopen(library.c_str(), RTLD_NOW | RTLD_LOCAL | RTLD_NOLOAD)) return there;
        const char* found = std::getenv(name);
        const std::optional<std::string> before = found ? std::optional<std::string>(found) : std::nullopt;
        setenv(name, "1", 1);
        void* loaded = dlopen(library.c_str(), RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
        if (before)
            setenv(name, before->c_str(), 1);
        else
            unsetenv(name);
        return loaded;
    }

    using Product = void (*)(int, int, int, int, int, int, float, const float*, int, const float*, int, float, float*,
                             int);
    std::shared_ptr<void> library_;
    Product product_ = nullptr;
};

}  // namespace

std::unique_ptr<GemmKernels> openblas_kernels(const std::string& library) {
    return std::make_unique<OpenBlas>(library);
}

}  // namespace sdcpp
