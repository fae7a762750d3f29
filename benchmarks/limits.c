/* The peak of a core: fused multiply-adds in registers, and reading memory. Built by benchmarks/cpu.py. */
#include <stdint.h>
#include <time.h>

#if defined(__AVX512BF16__)
#include <immintrin.h>
#endif

enum { lanes = 16, chains = 12 };
typedef float vector __attribute__((vector_size(lanes * sizeof(float))));

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Multiplications and additions a second, f32. */
double fma_per_second(int64_t rounds) {
    vector sums[chains], factor, term;
    for (int j = 0; j < lanes; ++j) factor[j] = 0.9999f, term[j] = 0.5f;
    for (int i = 0; i < chains; ++i) sums[i] = term;
    const double start = now();
    for (int64_t r = 0; r < rounds; ++r)
#pragma GCC unroll 12
        for (int i = 0; i < chains; ++i) sums[i] = sums[i] * factor + term;
    const double seconds = now() - start;
    vector all = sums[0];
    for (int i = 1; i < chains; ++i) all += sums[i];
    volatile float kept = all[0];
    (void)kept;
    return 2.0 * lanes * chains * (double)rounds / seconds;
}

/* Multiply-adds in bf16 with sums in f32; 0 if the processor has none. */
double bf16_per_second(int64_t rounds) {
#if defined(__AVX512BF16__)
    __m512 sums[chains];
    const __m512bh one = (__m512bh)_mm512_set1_epi32(0x3f803f80);
    for (int i = 0; i < chains; ++i) sums[i] = _mm512_setzero_ps();
    const double start = now();
    for (int64_t r = 0; r < rounds; ++r)
#pragma GCC unroll 12
        for (int i = 0; i < chains; ++i) sums[i] = _mm512_dpbf16_ps(sums[i], one, one);
    const double seconds = now() - start;
    volatile float kept = 0;
    for (int i = 0; i < chains; ++i) kept += _mm512_reduce_add_ps(sums[i]);
    return 64.0 * chains * (double)rounds / seconds;
#else
    (void)rounds;
    return 0;
#endif
}

/* Bytes a second, from memory that no cache holds. */
double read_per_second(const float* data, int64_t count) {
    vector sums[chains] = {0};
    const double start = now();
    int64_t i = 0;
    for (; i + lanes * chains <= count; i += lanes * chains)
#pragma GCC unroll 12
        for (int c = 0; c < chains; ++c) sums[c] += *(const vector*)(data + i + c * lanes);
    const double seconds = now() - start;
    volatile float kept = 0;
    for (int c = 0; c < chains; ++c) kept += sums[c][0];
    return sizeof(float) * (double)i / seconds;
}
