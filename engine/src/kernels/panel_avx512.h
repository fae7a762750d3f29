// Included like panel_kernel.h, before it.

// Code shared by f32 and bf16 products on AVX-512.
struct Avx512 {
    using Vector = __m512;
    static constexpr int64_t width = 16, rows = 12;

    static Vector zero() { return _mm512_setzero_ps(); }
    static Vector load(const float* p) { return _mm512_loadu_ps(p); }
    static void store(float* p, Vector v) { _mm512_storeu_ps(p, v); }
    static __mmask16 first(int64_t count) { return static_cast<__mmask16>((1u << count) - 1); }
    static Vector load(const float* p, int64_t count) { return _mm512_maskz_loadu_ps(first(count), p); }
    static void store(float* p, Vector v, int64_t count) { _mm512_mask_storeu_ps(p, first(count), v); }

    // 16 lines of 16 units; `count` columns become lines.
    static void turn_over(const Unit* lines, Unit* out, int64_t count) {
        __m512i a[16], b[16];
        for (int i = 0; i < 16; ++i) a[i] = _mm512_load_si512(lines + 16 * i);
        for (int i = 0; i < 16; i += 2) {
            b[i] = _mm512_unpacklo_epi32(a[i], a[i + 1]);
            b[i + 1] = _mm512_unpackhi_epi32(a[i], a[i + 1]);
        }
        for (int i = 0; i < 16; i += 4) {  // a[i + j]: unit j of each group of four, from lines i to i + 3
            a[i] = _mm512_unpacklo_epi64(b[i], b[i + 2]);
            a[i + 1] = _mm512_unpackhi_epi64(b[i], b[i + 2]);
            a[i + 2] = _mm512_unpacklo_epi64(b[i + 1], b[i + 3]);
            a[i + 3] = _mm512_unpackhi_epi64(b[i + 1], b[i + 3]);
        }
        for (int j = 0; j < 4; ++j) {
            const __m512i low0 = _mm512_shuffle_i32x4(a[j], a[4 + j], 0x88),
                          high0 = _mm512_shuffle_i32x4(a[j], a[4 + j], 0xdd);
            const __m512i low1 = _mm512_shuffle_i32x4(a[8 + j], a[12 + j], 0x88),
                          high1 = _mm512_shuffle_i32x4(a[8 + j], a[12 + j], 0xdd);
            b[j] = _mm512_shuffle_i32x4(low0, low1, 0x88);
            b[8 + j] = _mm512_shuffle_i32x4(low0, low1, 0xdd);
            b[4 + j] = _mm512_shuffle_i32x4(high0, high1, 0x88);
            b[12 + j] = _mm512_shuffle_i32x4(high0, high1, 0xdd);
        }
        for (int64_t i = 0; i < count; ++i) _mm512_storeu_si512(out + 16 * i, b[i]);
    }
};
