/* Matrix products with weights that stay in 4, 5, 6 or 8 bits; and with plain numbers.

   Problem. A decode step multiplies every weight once, so it lasts as long as reading the weights.
   Expanding blocks to float32 before the product reads seven times too much.

   Idea. Expand in registers, between the load and the multiply-add, and give each SIMD lane its
   own output row, so that a lane's sum never has to be added across lanes.

   Layout. Sixteen rows make a strip; a strip is one run of bytes, read from front to back. It is a
   sequence of blocks of 32 columns, each the sixteen rows' codes and then their scales:

       codes   bits  words of 16 lanes (lane = row; a lane is 32 bits)
               4     4 words: quad c (columns 4c..4c+3) is in word c/2, low nibbles if c is even
               5     the same, then 1 word: the fifth bit of quad c is bit c of each byte
               6     the same, then 2 words: the upper bits of quad c are bits 2(c%4).. of word c/4
               8     8 words: quad c is word c
               Column 4c+i is byte i of its quad in every case.
               16    BF16: column c is the 16 numbers at c
               32    F32: the same
       scales  Q4_0 Q5_0 Q8_0  half d[16]
               Q4_1 Q5_1       half d[16], half m[16]
               Q4_K Q5_K       uint8 (s, t)[16]; before every 8 blocks half d[16], half dmin[16]
               Q6_K            int8 (s, s')[16], one per 16 columns; before every 8 blocks half d[16]
               BF16 F32        none

   This takes as many bytes as the file does. Missing rows of the last strip are zeros.

   Arithmetic. A weight is q·d + m (or (q - offset)·d), and over one run of columns that share d

       Σ x·(q·d + m) = d · Σ x·q + m · Σ x

   so a weight costs a mask, a conversion and a multiply-add. The mask leaves byte i where it is,
   which makes it q·2^(8i); x is multiplied by 2^(-8i) beforehand, exactly. Few rows of x take this
   way. Many rows take another: 16 columns of Wᵀ at a time are expanded to a float32 panel that
   stays in the first-level cache and is multiplied by all of them.

   Trade-off. Activations stay float32, so results differ from those of expanded weights only by
   the order of a sum. Rounding them to 8 bits would make the large products faster and inexact.

   Order. The result of a row of x does not depend on the number of threads, nor on which other rows
   are multiplied in the same call as long as they take the same way. Where it must not depend on
   the way either (`exact`), the panel holds codes instead of weights, and many rows add the same
   numbers in the same order as few: run by run, column by column. That takes a tenth to a fifth
   longer (Q6_K a third). Plain numbers have no scales, so for them both ways are one. */

#define _GNU_SOURCE
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "pool.h"

#if defined(__AVX512F__)
#define W 16 /* lanes of a vector */
#define MR 12 /* rows of x that the large kernel keeps sums of in registers */
#elif defined(__AVX2__)
#define W 8
#define MR 6
#else
#define W 4
#define MR 6
#endif
#define STRIP 16
#define NV (STRIP / W)
#define COLS 32 /* of a block */

typedef float vf __attribute__((vector_size(4 * W)));
typedef int32_t vi __attribute__((vector_size(4 * W)));
typedef uint32_t vu __attribute__((vector_size(4 * W)));
typedef uint16_t vu16 __attribute__((vector_size(2 * W)));

#define INLINE static inline __attribute__((always_inline))
#if defined(__clang__)
#define UNROLL _Pragma("unroll")
#define UNROLL_8 _Pragma("unroll 8")
#else
#define UNROLL _Pragma("GCC unroll 16")
#define UNROLL_8 _Pragma("GCC unroll 8")
#endif
#define EACH(i, n) UNROLL for (int i = 0; i < (n); i++)

enum kind { Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q4_K, Q5_K, Q6_K, PLAIN_BF16, PLAIN_F32 };
enum type { F32, BF16 };

struct packed {
    const uint8_t *data;
    const float *bias; /* [strips * 16], or NULL */
    int64_t n, k;
    int64_t kind;
};

/* ---- what a kind looks like. Loops over codes are compiled once for each number of bits; the rest
   of a kind shows in its scales only, where a branch comes once in 512 weights ---- */

static const struct format {
    uint8_t bits, offset, min, super; /* min: has minima; super: shares scales among 8 blocks */
    int file_bytes;                   /* of a block of 32 (256 if super) in the file; 0: plain */
} formats[] = {
    [Q4_0] = {4, 8, 0, 0, 18},  [Q4_1] = {4, 0, 1, 0, 20},  [Q5_0] = {5, 16, 0, 0, 22},
    [Q5_1] = {5, 0, 1, 0, 24},  [Q8_0] = {8, 0, 0, 0, 34},  [Q4_K] = {4, 0, 1, 1, 144},
    [Q5_K] = {5, 0, 1, 1, 176}, [Q6_K] = {6, 32, 0, 1, 210}, [PLAIN_BF16] = {16, 0, 0, 0, 0},
    [PLAIN_F32] = {32, 0, 0, 0, 0},
};

INLINE int run_cols(int bits) { return bits == 6 ? 16 : 32; }
INLINE int is_plain(int bits) { return bits >= 16; }
INLINE int64_t code_bytes(struct format f) { return 64 * f.bits; }
INLINE int64_t block_bytes(struct format f) {
    return code_bytes(f) + (is_plain(f.bits) ? 0 : f.min && !f.super ? 64 : 32);
}
INLINE int64_t head_bytes(struct format f) { return !f.super ? 0 : f.min ? 64 : 32; }
/* Where block b of a strip starts, and the head that it shares. */
INLINE int64_t block_at(struct format f, int64_t b) {
    return b * block_bytes(f) + (b / 8 + 1) * head_bytes(f);
}
INLINE int64_t head_at(struct format f, int64_t b) { return block_at(f, b / 8 * 8) - head_bytes(f); }
INLINE int64_t strip_bytes(struct format f, int64_t k) {
    return k / COLS * block_bytes(f) + k / 256 * head_bytes(f);
}
INLINE int64_t num_strips(const struct packed *w) { return (w->n + STRIP - 1) / STRIP; }

/* ---- vectors ---- */

INLINE vu load(const void *p) {
    vu v;
    memcpy(&v, p, sizeof v);
    return v;
}
INLINE vf load_f(const float *p) {
    vf v;
    memcpy(&v, p, sizeof v);
    return v;
}
INLINE void store_f(float *p, vf v) { memcpy(p, &v, sizeof v); }

/* Builtins instead of <immintrin.h>, which takes longer to read than this file does to compile. */
INLINE vf half(const uint8_t *p) {
    vu16 h;
    memcpy(&h, p, sizeof h);
#if defined(__AVX512F__)
    typedef short v16hi __attribute__((vector_size(32)));
    return __builtin_ia32_vcvtph2ps512_mask((v16hi)h, (vf){0}, 0xFFFF, 4);
#elif defined(__F16C__) && W == 8
    typedef short v8hi __attribute__((vector_size(16)));
    return __builtin_ia32_vcvtph2ps256((v8hi)h);
#else
    vu u = __builtin_convertvector(h, vu), rest = (u & 0x7FFF) << 13;
    vf f = (vf)rest * 0x1p112f;
    rest = (vu)f | ((vu)(rest >= (0x7C00u << 13)) & 0x7F800000u);
    return (vf)(rest | ((u & 0x8000) << 16));
#endif
}
/* One byte of each lane's two, as a number. */
INLINE vi pairs(const uint8_t *p) {
    vu16 h;
    memcpy(&h, p, sizeof h);
    return __builtin_convertvector(h, vi);
}
INLINE vf byte_u(vi pair, int i) { return __builtin_convertvector(i ? pair >> 8 : pair & 255, vf); }
INLINE vf byte_s(vi pair, int i) { return __builtin_convertvector(pair << (i ? 16 : 24) >> 24, vf); }
INLINE uint16_t to_bf16(float f) {
    uint32_t u;
    memcpy(&u, &f, 4);
    if (f != f) return 0x7FC0;
    return (uint16_t)((u + 0x7FFF + ((u >> 16) & 1)) >> 16);
}
INLINE float from_bf16(uint16_t h) {
    uint32_t u = (uint32_t)h << 16;
    float f;
    memcpy(&f, &u, 4);
    return f;
}

/* ---- a block's codes and scales ---- */

/* Quad c + odd of lanes v·W.., c even: four codes a lane. A 4-bit quad has other bits set as well. */
INLINE vu quad(int bits, const uint8_t *block, int c, int odd, int v) {
    const uint8_t *lane = block + v * 4 * W;
    if (bits == 8) return load(lane + (c + odd) * 64);
    vu low = load(lane + c * 32) >> (odd * 4);
    if (bits == 4) return low;
    if (bits == 5) return (low & 0x0F0F0F0F) | (load(lane + 256) >> (c + odd) & 0x01010101) << 4;
    vu high = load(lane + 256 + c / 4 * 64) >> (2 * (c % 4 + odd));
    return (low & 0x0F0F0F0F) | (high & 0x03030303) << 4;
}

/* Code i of a quad, times shift_of(bits, i): a mask instead of a shift. */
INLINE vf scaled_code(int bits, vu q, int i) {
    if (bits == 8) return __builtin_convertvector((vi)((q << (24 - 8 * i)) & 0xFF000000u), vf);
    uint32_t mask = bits == 4 ? 0x0F : 0xFF;
    return __builtin_convertvector((vi)(q & (mask << (8 * i))), vf);
}
INLINE float shift_of(int bits, int i) {
    static const float power[4] = {1, 0x1p-8f, 0x1p-16f, 0x1p-24f};
    return is_plain(bits) ? 1 : power[bits == 8 ? 3 : i];
}

/* A column of a block of plain numbers, lanes v·W... */
INLINE vf number(int bits, const uint8_t *block, int col, int v) {
    if (bits == 32) return (vf)load(block + (col * STRIP + v * W) * 4);
    vu16 h;
    memcpy(&h, block + (col * STRIP + v * W) * 2, sizeof h);
    return (vf)(__builtin_convertvector(h, vu) << 16);
}

/* Code i of a quad as it is. */
INLINE vf code(int bits, vu q, int i) {
    if (bits == 8) return __builtin_convertvector((vi)(q << (24 - 8 * i)) >> 24, vf);
    uint32_t mask = bits == 4 ? 0x0F : 0xFF;
    return __builtin_convertvector((vi)((q >> (8 * i)) & mask), vf);
}

/* Scale of a run, and what is added to every weight of it: a minimum, or nothing. `head` is what
   eight blocks of a K kind share. */
INLINE vf scale(struct format f, const uint8_t *block, const uint8_t *head, int run, int v) {
    const uint8_t *at = block + code_bytes(f) + 2 * W * v;
    if (!f.super) return half(at);
    vf d = half(head + 2 * W * v);
    return d * (f.min ? byte_u(pairs(at), 0) : byte_s(pairs(at), run));
}
INLINE vf minimum(struct format f, const uint8_t *block, const uint8_t *head, int v) {
    const uint8_t *at = block + code_bytes(f) + 2 * W * v;
    if (!f.min) return (vf){0};
    if (!f.super) return half(at + 2 * STRIP);
    return -(half(head + 2 * STRIP + 2 * W * v) * byte_u(pairs(at), 1));
}

/* ---- few rows of x: expand in registers ---- */

#define TILE 4     /* rows of x that share an expansion, at most */
#define AHEAD 1024 /* bytes to prefetch ahead: the hardware's own stops at each page */

struct few {
    const struct packed *w;
    const float *x;    /* each column times its shift; a tile of M rows is [k, M] */
    const float *sums; /* Σ x of each run; a tile is [runs, M] */
    void *out;
    int64_t m, strips_per_task, runs;
    int type;
};

INLINE void put(void *out, int type, int64_t at, const float *values, int64_t count) {
    if (type == F32)
        memcpy((float *)out + at, values, (size_t)count * 4);
    else
        for (int64_t i = 0; i < count; i++) ((uint16_t *)out)[at + i] = to_bf16(values[i]);
}

/* Rows first..first+M of x times S strips, `strip` and `other`. S·M·NV sums are under way at a time:
   enough of them not to wait for each other, few enough for the registers. The order within a sum is
   always the same. */
INLINE void few_tile(
    const int bits, const int S, const int M, const struct few *s, int64_t strip, int64_t other,
    int64_t first
) {
    const struct packed *w = s->w;
    const struct format f = formats[w->kind];
    const int64_t k = w->k, strips[2] = {strip, other}, head_size = head_bytes(f);
    const float *x = s->x + first * k, *sums = s->sums + first * s->runs;
    const uint8_t *block = w->data + strip * strip_bytes(f, k), *head = block;
    const int64_t apart = (other - strip) * strip_bytes(f, k);
    vf acc[2][TILE][NV], t[2][TILE][NV];
    EACH(p, S) EACH(j, M) EACH(v, NV)
        acc[p][j][v] = w->bias ? load_f(w->bias + strips[p] * STRIP + v * W) : (vf){0};
    for (int64_t b = 0; b < k / COLS; b++, block += block_bytes(f)) {
        if (head_size && b % 8 == 0) head = block, block += head_size;
        EACH(p, S) for (int line = 0; line < 64 * bits; line += 64)
            __builtin_prefetch(block + p * apart + AHEAD + line);
        for (int run = 0; run < COLS / run_cols(bits); run++, sums += M) {
            EACH(p, S) EACH(j, M) EACH(v, NV) t[p][j][v] = (vf){0};
            if (is_plain(bits)) {
                for (int c = 0; c < COLS; c++, x += M) EACH(p, S) EACH(v, NV) {
                    vf value = number(bits, block + p * apart, c, v);
                    EACH(j, M) acc[p][j][v] += value * x[j];
                }
                continue;
            }
            for (int c = 0; c < run_cols(bits) / 4; c += 2)
                EACH(odd, 2) {
                    vu q[2][NV];
                    EACH(p, S) EACH(v, NV) q[p][v] = quad(bits, block + p * apart, run * 4 + c, odd, v);
                    EACH(i, 4) {
                        EACH(p, S) EACH(v, NV) {
                            vf value = scaled_code(bits, q[p][v], i);
                            EACH(j, M) t[p][j][v] += value * x[j];
                        }
                        x += M;
                    }
                }
            EACH(p, S) EACH(v, NV) {
                const uint8_t *at = block + p * apart, *top = head + p * apart;
                vf d = scale(f, at, top, run, v);
                vf least = minimum(f, at, top, v) - d * (float)f.offset;
                EACH(j, M) {
                    acc[p][j][v] += d * t[p][j][v]; /* two steps: one sum could be fused in two ways */
                    acc[p][j][v] += least * sums[j];
                }
            }
        }
    }
    EACH(p, S) EACH(j, M) EACH(v, NV) {
        const int64_t row = strips[p] * STRIP + v * W, left = w->n - row;
        float lanes[W];
        store_f(lanes, acc[p][j][v]);
        put(s->out, s->type, (first + j) * w->n + row, lanes, left < 0 ? 0 : left < W ? left : W);
    }
}

INLINE void few_task(const int bits, const struct few *s, int64_t task) {
    int64_t strip = task * s->strips_per_task, last = strip + s->strips_per_task;
    if (last > num_strips(s->w)) last = num_strips(s->w);
    for (; strip < last; strip += 2) {
        const int64_t other = strip + 1 < last ? strip + 1 : strip;
        int64_t j = 0;
        for (; j + 3 < s->m; j += 4)
            for (int64_t at = strip; at <= other; at++) few_tile(bits, 1, 4, s, at, at, j);
        for (; j + 1 < s->m; j += 2)
            for (int64_t at = strip; at <= other; at++) few_tile(bits, 1, 2, s, at, at, j);
        if (j < s->m) few_tile(bits, 2, 1, s, strip, other, j);
    }
}

/* Lay rows of x out as tiles of 4, 2 and 1; shift their columns and sum their runs. */
INLINE void prepare(const int bits, const void *x, int type, struct few *s, float *to, float *sums) {
    const int cols = run_cols(bits);
    const int64_t k = s->w->k;
    for (int64_t first = 0, M; first < s->m; first += M) {
        M = s->m - first >= 4 ? 4 : s->m - first >= 2 ? 2 : 1;
        for (int64_t j = 0; j < M; j++)
            for (int64_t run = 0; run < s->runs; run++) {
                float sum[4] = {0};
                for (int c = 0; c < cols; c += 4) EACH(i, 4) {
                    int64_t col = run * cols + c + i, at = (first + j) * k + col;
                    float value = type == F32 ? ((const float *)x)[at] : from_bf16(((const uint16_t *)x)[at]);
                    sum[i] += value;
                    to[first * k + col * M + j] = value * shift_of(bits, i);
                }
                sums[first * s->runs + run * M + j] = (sum[0] + sum[1]) + (sum[2] + sum[3]);
            }
    }
}

/* ---- many rows of x: expand a panel, then multiply it by all of them ---- */

#define PANEL 320    /* columns of W at a time: 16 · 320 floats, two thirds of a 32 KiB cache */
#define ROWS 192     /* rows of x at a time: 192 · 320 floats stay in the second-level cache */
#define RUNS (PANEL / 16) /* of a panel at most */

struct many {
    const struct packed *w;
    const float *x;    /* [m, k]; if exact, each column times its shift */
    const float *sums; /* if exact: Σ x of each run, [m, runs]; else NULL */
    float *out;
    int64_t m, strips_per_task, row_tasks, panel, runs;
};

/* What a panel of codes is multiplied by and what is added, for each run: [runs, 16] each. */
struct scales {
    float d[RUNS * STRIP], least[RUNS * STRIP];
} __attribute__((aligned(64)));

/* Blocks first..last of a strip → panel [columns, 16]: the same numbers, to the bit, that the file's
   blocks expand to. Or, with `scales`, their codes, each times its shift. */
INLINE void expand_blocks(
    const int bits, struct format f, const uint8_t *strip, int64_t first, int64_t last, float *panel,
    struct scales *scales
) {
    const int quads = run_cols(bits) / 4, runs = COLS / run_cols(bits);
    for (int64_t b = first; b < last; b++, panel += COLS * STRIP) {
        const uint8_t *block = strip + block_at(f, b), *head = strip + head_at(f, b);
        for (int v = 0; v < NV; v++) {
            if (is_plain(bits)) {
                for (int c = 0; c < COLS; c++)
                    store_f(panel + c * STRIP + v * W, number(bits, block, c, v));
                continue;
            }
            EACH(run, runs) {
                vf d = scale(f, block, head, run, v), least = minimum(f, block, head, v);
                if (scales) {
                    const int64_t at = ((b - first) * runs + run) * STRIP + v * W;
                    store_f(scales->d + at, d);
                    store_f(scales->least + at, least - d * (float)f.offset);
                }
                for (int c = run * quads; c < (run + 1) * quads; c += 2) EACH(odd, 2) {
                    vu q = quad(bits, block, c, odd, v);
                    EACH(i, 4) {
                        vf value = scales ? scaled_code(bits, q, i)
                                          : (code(bits, q, i) - (float)f.offset) * d + least;
                        store_f(panel + (4 * (c + odd) + i) * STRIP + v * W, value);
                    }
                }
            }
        }
    }
}

/* acc[i, 0..16] += Σ_c x[i, c] · panel[c, 0..16] for MR rows. */
INLINE void multiply(const float *const x[MR], const float *panel, int64_t cols, vf acc[MR][NV]) {
    for (int64_t c = 0; c < cols; c++, panel += STRIP) {
        vf p[NV];
        EACH(v, NV) p[v] = load_f(panel + v * W);
        EACH(i, MR) EACH(v, NV) acc[i][v] += p[v] * x[i][c];
    }
}

/* The same with a panel of codes, in the order of `few_tile`. */
INLINE void multiply_runs(
    const int bits, const float *const x[MR], const float *const sums[MR], const float *panel,
    const struct scales *scales, int64_t runs, vf acc[MR][NV]
) {
    for (int64_t run = 0; run < runs; run++) {
        const int64_t first = run * run_cols(bits);
        vf t[MR][NV];
        EACH(i, MR) EACH(v, NV) t[i][v] = (vf){0};
        UNROLL_8 for (int c = 0; c < run_cols(bits); c++, panel += STRIP) {
            vf p[NV];
            EACH(v, NV) p[v] = load_f(panel + v * W);
            EACH(i, MR) EACH(v, NV) t[i][v] += p[v] * x[i][first + c];
        }
        EACH(v, NV) {
            vf d = load_f(scales->d + run * STRIP + v * W);
            vf least = load_f(scales->least + run * STRIP + v * W);
            EACH(i, MR) {
                acc[i][v] += d * t[i][v];
                acc[i][v] += least * sums[i][run];
            }
        }
    }
}

/* `rows` rows of x from j on, MR at most, times columns from.. of a strip, which lie in `panel`.
   The first panel's sums begin with the bias, the others' with what is in `out`. */
INLINE void many_tile(
    const int bits, const int exact, const struct many *s, int64_t strip, int64_t from, int64_t cols,
    int64_t j, int64_t rows, const float *panel, const struct scales *scales
) {
    const struct packed *w = s->w;
    const int64_t row = strip * STRIP, lanes = w->n - row < STRIP ? w->n - row : STRIP;
    float *out = s->out + j * w->n + row, edge[STRIP] = {0};
    const float *x[MR], *sums[MR];
    vf acc[MR][NV];
    EACH(i, MR) {
        const int64_t r = j + (i < rows ? i : rows - 1);
        const float *begin = w->bias ? w->bias + row : edge;
        x[i] = s->x + r * w->k + from;
        if (exact) sums[i] = s->sums + r * s->runs + from / run_cols(bits);
        if (from > 0 && i < rows) {
            begin = out + i * w->n;
            if (lanes < STRIP) begin = memcpy(edge, begin, (size_t)lanes * 4);
        }
        EACH(v, NV) acc[i][v] = load_f(begin + v * W);
    }
    if (exact) multiply_runs(bits, x, sums, panel, scales, cols / run_cols(bits), acc);
    else multiply(x, panel, cols, acc);
    EACH(i, MR) if (i < rows) {
        if (lanes == STRIP) {
            EACH(v, NV) store_f(out + i * w->n + v * W, acc[i][v]);
        } else {
            EACH(v, NV) store_f(edge + v * W, acc[i][v]);
            memcpy(out + i * w->n, edge, (size_t)lanes * 4);
        }
    }
}

INLINE void many_task(const int bits, const int exact, const struct many *s, int64_t task) {
    const struct packed *w = s->w;
    const struct format f = formats[w->kind];
    const int64_t k = w->k, top = task % s->row_tasks * ROWS;
    const int64_t bottom = top + ROWS < s->m ? top + ROWS : s->m;
    int64_t first = task / s->row_tasks * s->strips_per_task, last = first + s->strips_per_task;
    if (last > num_strips(w)) last = num_strips(w);
    float panel[PANEL * STRIP] __attribute__((aligned(64)));
    struct scales scales;
    for (int64_t from = 0; from < k; from += s->panel) {
        int64_t cols = from + s->panel < k ? s->panel : k - from;
        for (int64_t strip = first; strip < last; strip++) {
            const uint8_t *data = w->data + strip * strip_bytes(f, k);
            const int64_t begin = from / COLS, end = (from + cols) / COLS;
            expand_blocks(bits, f, data, begin, end, panel, exact ? &scales : NULL);
            for (int64_t j = top; j < bottom; j += MR) {
                const int64_t rows = bottom - j < MR ? bottom - j : MR;
                many_tile(bits, exact, s, strip, from, cols, j, rows, panel, &scales);
            }
        }
    }
}

/* Row r of x → its columns shifted, and the sums of its runs, as `prepare` makes them. */
struct shift {
    const float *x;
    float *to, *sums;
    int64_t k;
};

INLINE void shift_row(const int bits, const struct shift *s, int64_t r) {
    typedef float four __attribute__((vector_size(16)));
    const int cols = run_cols(bits);
    const four shift = {shift_of(bits, 0), shift_of(bits, 1), shift_of(bits, 2), shift_of(bits, 3)};
    for (int64_t run = 0; run < s->k / cols; run++) {
        four sum = {0}, x;
        for (int64_t at = r * s->k + run * cols, end = at + cols; at < end; at += 4) {
            memcpy(&x, s->x + at, sizeof x);
            sum += x;
            x *= shift;
            memcpy(s->to + at, &x, sizeof x);
        }
        s->sums[r * (s->k / cols) + run] = (sum[0] + sum[1]) + (sum[2] + sum[3]);
    }
}

/* ---- rows of W as numbers ---- */

static void expand_strip(
    const struct packed *w, int64_t strip, int64_t first, int64_t last, float *panel
) {
    const struct format f = formats[w->kind];
    const uint8_t *data = w->data + strip * strip_bytes(f, w->k);
    switch (f.bits) {
    case 4: expand_blocks(4, f, data, first, last, panel, NULL); break;
    case 5: expand_blocks(5, f, data, first, last, panel, NULL); break;
    case 6: expand_blocks(6, f, data, first, last, panel, NULL); break;
    case 8: expand_blocks(8, f, data, first, last, panel, NULL); break;
    case 16: expand_blocks(16, f, data, first, last, panel, NULL); break;
    case 32: expand_blocks(32, f, data, first, last, panel, NULL); break;
    }
}

struct expand {
    const struct packed *w;
    const int64_t *ids; /* or NULL: rows first, first + 1, ... */
    void *out;          /* [count, k] */
    int64_t first, count, type;
};

/* Rows of one strip that start at `first`, or the one row ids[task]. */
static void expand_task(void *arg, int64_t task) {
    const struct expand *s = arg;
    const int64_t k = s->w->k;
    const int64_t row = s->ids ? s->ids[task] : s->first + task * STRIP;
    const int64_t left = s->ids ? 1 : s->count - task * STRIP, rows = left < STRIP ? left : STRIP;
    const int64_t at = s->ids ? task : task * STRIP;
    float panel[COLS * STRIP] __attribute__((aligned(64))), line[COLS];
    for (int64_t b = 0; b < k / COLS; b++) {
        expand_strip(s->w, row / STRIP, b, b + 1, panel);
        for (int64_t r = 0; r < rows; r++) {
            for (int c = 0; c < COLS; c++) line[c] = panel[c * STRIP + row % STRIP + r];
            put(s->out, (int)s->type, (at + r) * k + b * COLS, line, COLS);
        }
    }
}

/* ---- from the file's blocks to strips ---- */

struct pack {
    const uint8_t *source; /* [n, row_bytes] */
    uint8_t *out;
    int64_t n, k;
    int kind;
};

/* Codes of the 32 columns of block b, signed ones with their bits as they are. */
static void file_codes(int kind, const uint8_t *row, int64_t b, uint8_t q[COLS]) {
    const struct format f = formats[kind];
    const uint8_t *block = row + (f.super ? b / 8 : b) * f.file_bytes;
    const int g = (int)(b % 8); /* of the eight blocks of a K kind */
    if (kind == Q8_0) {
        memcpy(q, block + 2, COLS);
    } else if (!f.super) {
        const uint8_t *low = block + f.file_bytes - 16, *at = low - 4;
        uint32_t high = 0;
        if (f.bits == 5) high = at[0] | at[1] << 8 | at[2] << 16 | (uint32_t)at[3] << 24;
        for (int i = 0; i < 16; i++) {
            q[i] = (uint8_t)((low[i] & 15) | (high >> i & 1) << 4);
            q[i + 16] = (uint8_t)((low[i] >> 4) | (high >> (i + 16) & 1) << 4);
        }
    } else if (kind == Q6_K) {
        const uint8_t *low = block + g / 4 * 64 + g % 2 * 32, *high = block + 128 + g / 4 * 32;
        for (int i = 0; i < COLS; i++)
            q[i] = (uint8_t)((low[i] >> (g % 4 / 2 * 4) & 15) | (high[i] >> (g % 4 * 2) & 3) << 4);
    } else {
        const uint8_t *low = block + f.file_bytes - 128 + g / 2 * 32, *high = block + 16;
        for (int i = 0; i < COLS; i++) {
            q[i] = low[i] >> (g % 2 * 4) & 15;
            if (f.bits == 5) q[i] |= (uint8_t)((high[i] >> g & 1) << 4);
        }
    }
}

/* Codes of one row → its lane of a block. */
static void pack_codes(int bits, const uint8_t q[COLS], uint8_t *lane) {
    for (int c = 0; c < 8; c++)
        for (int i = 0; i < 4; i++) {
            const uint8_t value = q[4 * c + i];
            if (bits == 8) {
                lane[c * 64 + i] = value;
                continue;
            }
            lane[c / 2 * 64 + i] |= (uint8_t)((value & 15) << (c % 2 * 4));
            if (bits == 5) lane[256 + i] |= (uint8_t)(value >> 4 << c);
            if (bits == 6) lane[256 + c / 4 * 64 + i] |= (uint8_t)(value >> 4 << (2 * (c % 4)));
        }
}

/* Scales of row r, block b. */
static void pack_scales(int kind, const uint8_t *row, int64_t b, int64_t r, uint8_t *at, uint8_t *head) {
    const struct format f = formats[kind];
    const uint8_t *from = row + (f.super ? b / 8 : b) * f.file_bytes;
    const int g = (int)(b % 8);
    if (!f.super) {
        memcpy(at + 2 * r, from, 2);
        if (f.min) memcpy(at + 2 * STRIP + 2 * r, from + 2, 2);
    } else if (kind == Q6_K) {
        memcpy(head + 2 * r, from + 208, 2);
        memcpy(at + 2 * r, from + 192 + 2 * g, 2);
    } else {
        const uint8_t *six = from + 4; /* twelve bytes that hold sixteen 6-bit numbers */
        memcpy(head + 2 * r, from, 2);
        memcpy(head + 2 * STRIP + 2 * r, from + 2, 2);
        at[2 * r] = g < 4 ? six[g] & 63 : (uint8_t)((six[g + 4] & 15) | (six[g - 4] >> 6 << 4));
        at[2 * r + 1] = g < 4 ? six[g + 4] & 63 : (uint8_t)((six[g + 4] >> 4) | (six[g] >> 6 << 4));
    }
}

static void pack_task(void *arg, int64_t strip) {
    const struct pack *s = arg;
    const struct format f = formats[s->kind];
    const int64_t blocks = s->k / COLS, row_bytes = blocks / (f.super ? 8 : 1) * f.file_bytes;
    uint8_t *out = s->out + strip * strip_bytes(f, s->k), q[COLS];
    memset(out, 0, (size_t)strip_bytes(f, s->k));
    for (int64_t r = 0; r < STRIP && strip * STRIP + r < s->n; r++) {
        const uint8_t *row = s->source + (strip * STRIP + r) * row_bytes;
        for (int64_t b = 0; b < blocks; b++) {
            uint8_t *block = out + block_at(f, b);
            file_codes(s->kind, row, b, q);
            pack_codes(f.bits, q, block + 4 * r);
            pack_scales(s->kind, row, b, r, block + code_bytes(f), out + head_at(f, b));
        }
    }
}

/* ---- one copy for each number of bits ---- */

#define BITS(bits) \
    static void few_##bits(void *s, int64_t task) { few_task(bits, s, task); } \
    static void prepare_##bits(const void *x, struct few *s, float *to, float *sums) { \
        if (s->type == F32) prepare(bits, x, F32, s, to, sums); \
        else prepare(bits, x, BF16, s, to, sums); \
    } \
    static void many_##bits(void *s, int64_t task) { many_task(bits, 0, s, task); } \
    static void exact_##bits(void *s, int64_t task) { many_task(bits, !is_plain(bits), s, task); } \
    static void shift_##bits(void *s, int64_t r) { shift_row(bits, s, r); }
BITS(4) BITS(5) BITS(6) BITS(8) BITS(16) BITS(32)

#define ALL(bits) [bits] = {few_##bits, prepare_##bits, many_##bits, exact_##bits, shift_##bits}
static const struct {
    void (*few)(void *, int64_t);
    void (*prepare)(const void *, struct few *, float *, float *);
    void (*many)(void *, int64_t);
    void (*exact)(void *, int64_t);
    void (*shift)(void *, int64_t);
} by_bits[] = {ALL(4), ALL(5), ALL(6), ALL(8), ALL(16), ALL(32)};

/* ---- entry points; the caller has checked every shape, type and pointer ---- */

/* Bytes of a packed [n, k] matrix. */
int64_t packed_bytes(int64_t kind, int64_t n, int64_t k) {
    return (n + STRIP - 1) / STRIP * strip_bytes(formats[kind], k);
}

void pack_rows(int64_t kind, const uint8_t *source, uint8_t *out, int64_t n, int64_t k, int64_t threads) {
    struct pack s = {source, out, n, k, (int)kind};
    run_tasks(pack_task, &s, (n + STRIP - 1) / STRIP, threads);
}

/* x [m, k] in float32 or bfloat16 → out [m, n] in the same type. Returns 0, or -1 if there is no
   memory. For few rows. */
int matmul_few(
    const struct packed *w, const void *x, void *out, int64_t m, int64_t type, int64_t threads
) {
    if (m == 0) return 0;
    const int bits = formats[w->kind].bits;
    const int64_t runs = w->k / run_cols(bits), strips = num_strips(w);
    float *shifted = malloc((size_t)(m * (w->k + runs)) * 4);
    if (!shifted) return -1;
    int64_t each = strips / (threads * 8) / 2 * 2; /* strips go in pairs */
    if (each < 2) each = 2;
    struct few s = {w, shifted, shifted + m * w->k, out, m, each, runs, (int)type};
    by_bits[bits].prepare(x, &s, shifted, shifted + m * w->k);
    run_tasks(by_bits[bits].few, &s, (strips + each - 1) / each, threads);
    free(shifted);
    return 0;
}

/* The same for many rows, in float32. exact: in the order of matmul_few. */
int matmul_many(
    const struct packed *w, const float *x, float *out, int64_t m, int64_t exact, int64_t threads
) {
    const int bits = formats[w->kind].bits;
    const int64_t strips = num_strips(w), row_tasks = (m + ROWS - 1) / ROWS, k = w->k;
    const int64_t panels = (k + PANEL - 1) / PANEL, panel = (k / COLS + panels - 1) / panels * COLS;
    int64_t each = strips * row_tasks / (threads * 8);
    each = each < 1 ? 1 : each > 8 ? 8 : each;
    struct many s = {w, x, NULL, out, m, each, row_tasks, panel, k / run_cols(bits)};
    float *shifted = NULL;
    if (exact && !is_plain(bits)) {
        shifted = malloc((size_t)(m * (k + s.runs)) * 4);
        if (!shifted) return -1;
        struct shift job = {x, shifted, shifted + m * k, k};
        run_tasks(by_bits[bits].shift, &job, m, threads);
        s.x = job.to, s.sums = job.sums;
    }
    run_tasks(
        exact ? by_bits[bits].exact : by_bits[bits].many, &s, (strips + each - 1) / each * row_tasks,
        threads
    );
    free(shifted);
    return 0;
}

/* Rows ids[0..count] → out [count, k] in float32 or bfloat16; without ids: rows first, first + 1, ...,
   where first is a multiple of 16. Returns 0, or -1 if an id is out of range. */
int expand_rows(
    const struct packed *w, const int64_t *ids, void *out, int64_t first, int64_t count, int64_t type,
    int64_t threads
) {
    for (int64_t i = 0; ids && i < count; i++)
        if (ids[i] < 0 || ids[i] >= w->n) return -1;
    struct expand s = {w, ids, out, first, count, type};
    run_tasks(expand_task, &s, ids ? count : (count + STRIP - 1) / STRIP, threads);
    return 0;
}

/* What it was compiled for. */
const char *instruction_set(void) {
    return
#if defined(__AVX512BF16__)
        "avx512 bf16";
#elif defined(__AVX512F__)
        "avx512";
#elif defined(__AVX2__)
        "avx2";
#elif defined(__ARM_NEON)
        "neon";
#else
        "generic";
#endif
}
