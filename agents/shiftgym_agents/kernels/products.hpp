// Multiply small matrices whose right-hand side is packed into panels that fit the vector registers.
//
// A product adds up in order of the inner index, whatever the tile, so each number it gives depends on its own
// row and column alone. Matrices are row-major.
#pragma once
#include <algorithm>
#include <cstring>
#ifdef __FMA__
#include <immintrin.h>
#endif

namespace {

#if defined(__AVX512F__)
constexpr int LANES = 16, TILE_ROWS = 8;  // 32 registers: 16 hold the tile
#elif defined(__AVX__)
constexpr int LANES = 8, TILE_ROWS = 6;  // 16 registers: 12 hold the tile, 2 a panel's row, 1 a number
#elif defined(__aarch64__)
constexpr int LANES = 4, TILE_ROWS = 8;
#else
constexpr int LANES = 4, TILE_ROWS = 6;
#endif
#ifdef __clang__
#define SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define SHUFFLE(a, b, ...) __builtin_shuffle(a, b, places{__VA_ARGS__})
#endif
typedef float vec __attribute__((vector_size(LANES * 4), aligned(4), may_alias));

inline vec load(const float* p) { return *reinterpret_cast<const vec*>(p); }
inline void store(float* p, vec v) { *reinterpret_cast<vec*>(p) = v; }

constexpr int VECS = 2, PANEL = VECS * LANES;

// a * b + c. Spelt out: tuned for some processors, compilers cut chains of sums into products and additions,
// which halves the rate of a tile.
inline vec fused(vec a, vec b, vec c) {
#ifdef __AVX512F__
    return (vec)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#elif defined(__FMA__)
    return (vec)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#else
    return a * b + c;
#endif
}

// What happens to a product before it is stored.
struct Epilogue {
    const float* bias = nullptr;  // added per column
    bool relu = false;            // max(., 0), NaN stays NaN
    const float* mask = nullptr;  // zero where mask <= 0; laid out as the output
};

// Copy `count` columns from `from` on; the rest of the vector is zero.
inline vec load_part(const float* from, int count) {
    float padded[LANES] = {};
    if (count > 0) std::memcpy(padded, from, std::min(count, LANES) * sizeof(float));
    return load(padded);
}

template <int ROWS>
void tile(int K, const float* A, long row, long col, const float* packed, float* C, long ldc, int width,
          const Epilogue& e, const float* bias, const float* mask) {
    vec acc[ROWS][VECS];
    const bool whole = width >= PANEL;
    auto at = [&](const float* p, int j) {
        return whole ? load(p + j * LANES) : load_part(p + j * LANES, width - j * LANES);
    };
#pragma GCC unroll 2
    for (int j = 0; j < VECS; j++) {
        const vec start = bias ? at(bias, j) : vec{};
#pragma GCC unroll 8
        for (int i = 0; i < ROWS; i++) acc[i][j] = start;
    }
    for (int k = 0; k < K; k++) {
        vec b[VECS];
#pragma GCC unroll 2
        for (int j = 0; j < VECS; j++) b[j] = load(packed + (long)k * PANEL + j * LANES);
#pragma GCC unroll 8
        for (int i = 0; i < ROWS; i++) {
            const float a = A[i * row + k * col];
#pragma GCC unroll 2
            for (int j = 0; j < VECS; j++) acc[i][j] = fused(a - vec{}, b[j], acc[i][j]);
        }
    }
    const vec zero = {};
#pragma GCC unroll 8
    for (int i = 0; i < ROWS; i++) {
        float edge[PANEL];
        float* out = whole ? C + i * ldc : edge;
#pragma GCC unroll 2
        for (int j = 0; j < VECS; j++) {
            vec v = acc[i][j];
            if (e.relu) v = v < zero ? zero : v;
            if (mask) v = at(mask + i * ldc, j) <= zero ? zero : v;
            store(out + j * LANES, v);
        }
        if (!whole) std::copy(edge, edge + width, C + i * ldc);
    }
}

template <int ROWS>
void rest(int rows, int K, const float* A, long row, long col, const float* packed, float* C, long ldc,
          int width, const Epilogue& e, const float* bias, const float* mask) {
    if constexpr (ROWS > 0) {
        if (rows == ROWS) tile<ROWS>(K, A, row, col, packed, C, ldc, width, e, bias, mask);
        else rest<ROWS - 1>(rows, K, A, row, col, packed, C, ldc, width, e, bias, mask);
    }
}

inline long packed_size(int K, int N) { return (long)K * ((N + PANEL - 1) / PANEL * PANEL); }

// Turn 8 rows of 8 numbers, `from_row` apart, into 8 columns: to[j * to_row + i] = from[i * from_row + j].
inline void transpose8(const float* from, long from_row, float* to, long to_row) {
    typedef float eight __attribute__((vector_size(32), aligned(4), may_alias));
    typedef int places __attribute__((vector_size(32)));
    eight a[8], b[8];
    for (int i = 0; i < 8; i++) a[i] = *reinterpret_cast<const eight*>(from + i * from_row);
    for (int i = 0; i < 8; i += 2) {  // pairs of rows, then fours, then halves
        b[i] = SHUFFLE(a[i], a[i + 1], 0, 8, 1, 9, 4, 12, 5, 13);
        b[i + 1] = SHUFFLE(a[i], a[i + 1], 2, 10, 3, 11, 6, 14, 7, 15);
    }
    for (int i = 0; i < 8; i += 4)
        for (int j = 0; j < 2; j++) {
            a[i + 2 * j] = SHUFFLE(b[i + j], b[i + j + 2], 0, 1, 8, 9, 4, 5, 12, 13);
            a[i + 2 * j + 1] = SHUFFLE(b[i + j], b[i + j + 2], 2, 3, 10, 11, 6, 7, 14, 15);
        }
    for (int i = 0; i < 4; i++) {
        b[i] = SHUFFLE(a[i], a[i + 4], 0, 1, 2, 3, 8, 9, 10, 11);
        b[i + 4] = SHUFFLE(a[i], a[i + 4], 4, 5, 6, 7, 12, 13, 14, 15);
    }
    for (int j = 0; j < 8; j++) *reinterpret_cast<eight*>(to + j * to_row) = b[j];
}

// Copy B (K, N), element (k, n) at B[k*row + n*col], into panels of PANEL columns, padded with zeros.
void pack(int K, int N, const float* B, long row, long col, float* to) {
    for (int n0 = 0; n0 < N; n0 += PANEL, to += (long)K * PANEL) {
        const int width = std::min(PANEL, N - n0);
        if (width < PANEL) std::fill(to, to + (long)K * PANEL, 0.f);
        if (col == 1) {
            for (int k = 0; k < K; k++) std::copy_n(B + k * row + n0, width, to + (long)k * PANEL);
            continue;
        }
        const int whole_k = row == 1 ? K / 8 * 8 : 0, whole_n = width / 8 * 8;
        for (int k = 0; k < whole_k; k += 8)
            for (int n = 0; n < whole_n; n += 8)
                transpose8(B + k + (n0 + n) * col, col, to + (long)k * PANEL + n, PANEL);
        for (int n = 0; n < width; n++)
            for (int k = n < whole_n ? whole_k : 0; k < K; k++)
                to[(long)k * PANEL + n] = B[k * row + (n0 + n) * col];
    }
}

// C (M, N) = A (M, K) B (K, N): element (m, k) of A at A[m*row + k*col], B packed, rows of C ldc apart.
void multiply(int M, int N, int K, const float* A, long row, long col, const float* packed, float* C, long ldc,
              const Epilogue& e = {}) {
    for (int n0 = 0; n0 < N; n0 += PANEL, packed += (long)K * PANEL)
        for (int m0 = 0; m0 < M; m0 += TILE_ROWS)
            rest<TILE_ROWS>(std::min(TILE_ROWS, M - m0), K, A + m0 * row, row, col, packed, C + m0 * ldc + n0,
                            ldc, std::min(PANEL, N - n0), e, e.bias ? e.bias + n0 : nullptr,
                            e.mask ? e.mask + m0 * ldc + n0 : nullptr);
}

constexpr int NARROW = 8;  // outputs up to which a panel would be mostly padding

// C (M, N) = A (M, K) B (K, N) + bias, unless null, for few columns: A's rows dense, B's columns as rows of
// `columns` (N, K).
void multiply_narrow(int M, int N, int K, const float* A, long row, const float* columns, const float* bias,
                     float* C) {
    for (int m = 0; m < M; m++)
        for (int n = 0; n < N; n++) {
            const float *a = A + m * row, *b = columns + (long)n * K;
            vec sums[4] = {};
            int k = 0;
            for (; k + 4 * LANES <= K; k += 4 * LANES)
                for (int j = 0; j < 4; j++) sums[j] += load(a + k + j * LANES) * load(b + k + j * LANES);
            for (; k < K; k += LANES) sums[0] += load_part(a + k, K - k) * load_part(b + k, K - k);
            const vec total = (sums[0] + sums[1]) + (sums[2] + sums[3]);
            float sum = bias ? bias[n] : 0;
            for (int lane = 0; lane < LANES; lane++) sum += total[lane];
            C[(long)m * N + n] = sum;
        }
}

// C (M, N) = A^T B for few columns: A (K, M) rows `row` apart, B (K, N) dense.
void outer_narrow(int M, int N, int K, const float* A, long row, const float* B, float* C) {
    for (int m0 = 0; m0 < M; m0 += 4 * LANES)
        for (int n = 0; n < N; n++) {
            const int width = std::min(4 * LANES, M - m0);
            float sums[4 * LANES] = {};
            for (int k = 0; k < K; k++) {
                const float* a = A + k * row + m0;
                const float b = B[(long)k * N + n];
                if (width == 4 * LANES)
                    for (int j = 0; j < 4 * LANES; j++) sums[j] += a[j] * b;
                else
                    for (int j = 0; j < width; j++) sums[j] += a[j] * b;
            }
            for (int j = 0; j < width; j++) C[(long)(m0 + j) * N + n] = sums[j];
        }
}

}  // namespace
