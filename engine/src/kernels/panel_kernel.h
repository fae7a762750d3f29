// The body of panels_*.cpp, which define the vectors (Isa) and the processor to compile for, then include
// this. Sums run along k in order, whatever the number of rows: a row's result does not depend on the others. No
// function that other files may have, too (such as those of <algorithm>) is called from here: the linker might take
// the one that was compiled for this processor.

inline int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

// c [R, P panels] over all units. `columns` of the last panel's columns belong to c.
template <int R, int P, bool Whole>
void tile(int64_t units, const Unit* a, int64_t lda, const Unit* b, float* c, int64_t ldc, const float* bias, bool add,
          int64_t columns) {
    constexpr int64_t width = Isa::width;
    const int64_t panel = units * width;
    typename Isa::Vector sums[R][P];
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
        for (int p = 0; p < P; ++p) {
            const float* from = add ? c + r * ldc + p * width : bias ? bias + p * width : nullptr;
            sums[r][p] = !from ? Isa::zero() : Whole || p + 1 < P ? Isa::load(from) : Isa::load(from, columns);
        }
    for (int64_t u = 0; u < units; ++u) {
        typename Isa::Units column[P];
#pragma GCC unroll 4
        for (int p = 0; p < P; ++p) column[p] = Isa::load_units(b + p * panel + u * width);
#pragma GCC unroll 16
        for (int r = 0; r < R; ++r) {
            const typename Isa::Units x = Isa::broadcast(a + r * lda + u);
#pragma GCC unroll 4
            for (int p = 0; p < P; ++p) sums[r][p] = Isa::multiply_add(sums[r][p], x, column[p]);
        }
    }
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
        for (int p = 0; p < P; ++p) {
            float* to = c + r * ldc + p * width;
            if (Whole || p + 1 < P)
                Isa::store(to, sums[r][p]);
            else
                Isa::store(to, sums[r][p], columns);
        }
}

using Tile = void (*)(int64_t, const Unit*, int64_t, const Unit*, float*, int64_t, const float*, bool, int64_t);

struct Tiles {
    Tile by_rows[Isa::rows];  // less one
};
template <int P, bool Whole, int... R>
constexpr Tiles tiles_of(std::integer_sequence<int, R...>) {
    return {{tile<R + 1, P, Whole>...}};
}
using Rows = std::make_integer_sequence<int, static_cast<int>(Isa::rows)>;
constexpr Tiles tiles[] = {tiles_of<1, false>(Rows{}), tiles_of<1, true>(Rows{}), tiles_of<2, false>(Rows{}),
                           tiles_of<2, true>(Rows{})};

// A packed matrix is panels of `Isa::width` columns, each [units, width].
class PanelKernels final : public GemmKernels {
  public:
    PanelKernels() : GemmKernels(Isa::pair, Isa::width) {}

    void multiply(int64_t m, int64_t n, int64_t units, const Unit* a, int64_t lda, const Unit* b, float* c, int64_t ldc,
                  const float* bias, bool add) const override {
        constexpr int64_t width = Isa::width, rows = Isa::rows;
        // Two panels stay in the first cache while a's rows go by.
        for (int64_t column = 0; column < n; column += 2 * width) {
            const int64_t left = least(2 * width, n - column);
            const Tiles& kind = tiles[(left > width ? 2u : 0u) + (left % width == 0 ? 1u : 0u)];
            for (int64_t row = 0; row < m; row += rows)
                kind.by_rows[least(rows, m - row) - 1](units, a + row * lda, lda, b + column * units,
                                                       c + row * ldc + column, ldc, bias ? bias + column : nullptr, add,
                                                       left % width);
        }
    }

    void pack(const float* b, int64_t ld, int64_t k, int64_t n, Unit* out) const override {
        constexpr int64_t width = Isa::width;
        for (int64_t column = 0; column < n; column += width) {
            const int64_t count = least(width, n - column);
            for (int64_t row = 0; row < k; row += Isa::pair, out += width) {
                const float* first = b + row * ld + column;
                const float* second = row + 1 < k ? first + ld : nullptr;
                if (count == width) {
                    Isa::pack(first, second, out);
                    continue;
                }
                alignas(64) float values[2][width] = {};
                std::memcpy(values[0], first, static_cast<size_t>(count) * sizeof(float));
                if (Isa::pair == 2 && second)
                    std::memcpy(values[1], second, static_cast<size_t>(count) * sizeof(float));
                Isa::pack(values[0], values[1], out);
            }
        }
    }

    void place(const float* values, int64_t ld, int64_t matrices, int64_t row, int64_t column, int64_t count, int64_t k,
               int64_t, Unit* packed, int64_t apart) const override {
        constexpr int64_t width = Isa::width;
        for (int64_t i = 0; i < matrices; ++i) {
            const float* from = values + i * ld;
            Unit* to = packed + i * apart + row * width;
            for (int64_t at = column, left = count; left > 0;) {
                const int64_t within = at % width, some = least(left, width - within);
                Unit* target = to + at / width * k * width + within;
                if (some == width)
                    Isa::line(from, target);
                else
                    std::memcpy(target, from, static_cast<size_t>(some) * sizeof(Unit));
                from += some;
                at += some;
                left -= some;
            }
        }
    }

    void convert(const float* row, int64_t k, Unit* out) const override { Isa::convert(row, k, out); }

    // Rows along k become columns: blocks of width x width units, transposed.
    void pack_transposed(const float* b, int64_t ld, int64_t k, int64_t n, Unit* out) const override {
        constexpr int64_t width = Isa::width;
        const int64_t units = (k + Isa::pair - 1) / Isa::pair;
        alignas(64) Unit block[width * width];
        for (int64_t column = 0; column < n; column += width) {
            const int64_t count = least(width, n - column);
            for (int64_t unit = 0; unit < units; unit += width) {
                const int64_t some = least(width, units - unit);
                for (int64_t i = 0; i < width; ++i) {
                    Unit* line = block + i * width;
                    if (i < count && some == width && (unit + width) * Isa::pair <= k) {
                        Isa::line(b + (column + i) * ld + unit * Isa::pair, line);
                        continue;
                    }
                    std::memset(line, 0, sizeof(Unit) * width);
                    if (i < count)
                        Isa::convert(b + (column + i) * ld + unit * Isa::pair,
                                     least(width * Isa::pair, k - unit * Isa::pair), line);
                }
                Isa::turn_over(block, out, some);
                out += some * width;
            }
        }
    }
};
