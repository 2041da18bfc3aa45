/* The small steps between the matrices: norm, rotation and KV write, gated activation, and the
   attention of a single new token over paged keys and values.

   Problem. Composed from tensor operations, each step is five to ten passes over a few kilobytes.
   For one token the work is nothing and the calls are everything: thirty layers of them take longer
   than reading all the weights.

   Idea. One call each. A row is loaded once, worked on in float32 in a buffer that stays in the
   first-level cache, and stored once.

   Attention of one token. Its keys lie in blocks that need not follow each other; the kernel reads
   them where they are. All heads go through a position together, so that a block is read from front
   to back, and each key once. The positions are cut into chunks, and every (row, chunk) is a task of
   its own; for each head it yields the largest score m, the sum l = Σ exp(s - m) and the vector
   a = Σ exp(s - m)·v. Chunks are merged by

       M = max m,   out = Σ exp(m - M)·a / Σ exp(m - M)·l

   which is the softmax over all positions. How long chunks are depends on what the row itself sees
   and on nothing else, so neither the number of threads nor the other rows change the result. Short
   contexts have short ones: cut into one or two, they would leave cores without work.
   Source: Dao et al. 2023, Flash-Decoding. */

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "pool.h"

#define SIMD _Pragma("omp simd")
#define SIMD_SUM(s) SIMD_SUM_(omp simd reduction(+ : s))
#define SIMD_SUM_(words) _Pragma(#words)
#define MAX_DIM 512    /* of a head */
#define MAX_HEADS 128  /* query heads */
#define CHUNK 128      /* positions of a task at most */
#define LEAST 16       /* and at least, in steps of so many */
#define TASKS 4        /* of a row, before they get longer than the least */
#define AHEAD 4        /* positions to prefetch ahead: blocks need not follow each other */

/* ---- numbers: float32 (type 0) or bfloat16 (type 1) in memory, float32 in registers ---- */

static inline const void *at(const void *base, int64_t element, int type) {
    return (const char *)base + element * (type ? 2 : 4);
}

static void load(float *to, const void *from, int64_t n, int type) {
    if (!type) {
        memcpy(to, from, (size_t)n * 4);
        return;
    }
    const uint16_t *half = from;
    SIMD for (int64_t i = 0; i < n; i++) {
        const uint32_t bits = (uint32_t)half[i] << 16;
        memcpy(&to[i], &bits, 4);
    }
}

static void store(void *to, const float *from, int64_t n, int type) {
    if (!type) {
        memcpy(to, from, (size_t)n * 4);
        return;
    }
    uint16_t *half = to;
    SIMD for (int64_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, &from[i], 4);
        half[i] = (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16); /* to nearest, ties to even */
    }
}

/* e^x to the last bit or two of a float32 (a polynomial on [-ln2/2, ln2/2], then the exponent). */
static inline float exp_(float x) {
    x = x < -87.0f ? -87.0f : x > 88.0f ? 88.0f : x;
    const float n = rintf(x * 1.44269504f);
    const float r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    const int32_t power = ((int32_t)n + 127) << 23;
    float scale;
    memcpy(&scale, &power, 4);
    return p * scale;
}

static void scale_to_rms(float *row, const float *weight, int64_t n, float eps) {
    float sum = 0;
    SIMD_SUM(sum) for (int64_t i = 0; i < n; i++) sum += row[i] * row[i];
    const float factor = 1.0f / sqrtf(sum / (float)n + eps);
    SIMD for (int64_t i = 0; i < n; i++) row[i] = row[i] * factor * weight[i];
}

/* ---- RMSNorm, after adding a branch to the residual if there is one ---- */

#define ROWS 8 /* rows of a task */

struct norm {
    const void *x, *branch;
    const float *weight;
    void *sum, *out;
    int64_t rows, dim;
    float eps;
    int type;
};

static void norm_task(void *arg, int64_t task) {
    const struct norm *s = arg;
    float row[s->dim], branch[s->dim];
    const int64_t end = (task + 1) * ROWS < s->rows ? (task + 1) * ROWS : s->rows;
    for (int64_t r = task * ROWS; r < end; r++) {
        const int64_t first = r * s->dim;
        load(row, at(s->x, first, s->type), s->dim, s->type);
        if (s->branch) {
            load(branch, at(s->branch, first, s->type), s->dim, s->type);
            SIMD for (int64_t i = 0; i < s->dim; i++) row[i] += branch[i];
            void *sum = (void *)at(s->sum, first, s->type);
            store(sum, row, s->dim, s->type);
            load(row, sum, s->dim, s->type); /* the norm is of the sum as it is kept */
        }
        scale_to_rms(row, s->weight, s->dim, s->eps);
        store((void *)at(s->out, first, s->type), row, s->dim, s->type);
    }
}

/* x [rows, dim] (+ branch, which also gives sum) → out = norm · weight. */
void rms_norm(
    const void *x, const void *branch, const float *weight, void *sum, void *out, int64_t rows,
    int64_t dim, float eps, int type, int64_t threads
) {
    struct norm s = {x, branch, weight, sum, out, rows, dim, eps, type};
    run_tasks(norm_task, &s, (rows + ROWS - 1) / ROWS, threads);
}

/* ---- norms of q and k, rotation, and keys and values to their slots ---- */

struct turn {
    const void *qkv;
    const float *cos, *sin, *q_norm, *k_norm;
    void *q, *keys, *values;
    const int64_t *slots;
    int64_t tokens, heads, kv_heads, dim, half;
    float eps;
    int type;
};

static void turn_token(const struct turn *s, int64_t t) {
    float row[MAX_DIM];
    const int64_t all = s->heads + 2 * s->kv_heads, width = s->kv_heads * s->dim;
    const float *cosine = s->cos + t * s->half, *sine = s->sin + t * s->half;
    const int64_t slot = s->slots[t] * width;
    for (int64_t h = 0; h < s->heads + s->kv_heads; h++) {
        const int is_query = h < s->heads;
        const float *weight = is_query ? s->q_norm : s->k_norm;
        load(row, at(s->qkv, (t * all + h) * s->dim, s->type), s->dim, s->type);
        if (weight) scale_to_rms(row, weight, s->dim, s->eps);
        SIMD for (int64_t i = 0; i < s->half; i++) {
            const float a = row[i], b = row[s->half + i];
            row[i] = a * cosine[i] - b * sine[i];
            row[s->half + i] = b * cosine[i] + a * sine[i];
        }
        const void *to = is_query ? at(s->q, (t * s->heads + h) * s->dim, s->type)
                                  : at(s->keys, slot + (h - s->heads) * s->dim, s->type);
        store((void *)to, row, s->dim, s->type);
    }
    memcpy(
        (void *)at(s->values, slot, s->type),
        at(s->qkv, (t * all + s->heads + s->kv_heads) * s->dim, s->type),
        (size_t)width * (s->type ? 2 : 4)
    );
}

static void turn_task(void *arg, int64_t task) {
    const struct turn *s = arg;
    const int64_t end = (task + 1) * ROWS < s->tokens ? (task + 1) * ROWS : s->tokens;
    for (int64_t t = task * ROWS; t < end; t++) turn_token(s, t);
}

/* qkv [tokens, heads + 2 kv_heads, dim] → q [tokens, heads, dim]; keys and values are written to
   slots [tokens] of pools [slots, kv_heads, dim]. cos, sin: [tokens, half]. */
void rotate_and_write(const struct turn *s, int64_t threads) {
    run_tasks(turn_task, (void *)s, (s->tokens + ROWS - 1) / ROWS, threads);
}

/* ---- act(gate) · up ---- */

struct gate {
    const void *gate_up;
    void *out;
    int64_t rows, width;
    int gelu, type;
};

#define PIECE 512

static void gate_task(void *arg, int64_t r) {
    const struct gate *s = arg;
    float g[PIECE], u[PIECE];
    for (int64_t from = 0; from < s->width; from += PIECE) {
        const int64_t n = s->width - from < PIECE ? s->width - from : PIECE;
        load(g, at(s->gate_up, r * 2 * s->width + from, s->type), n, s->type);
        load(u, at(s->gate_up, (r * 2 + 1) * s->width + from, s->type), n, s->type);
        if (s->gelu) {
            /* 0.5·g·(1 + tanh y) = g / (1 + e^-2y) */
            SIMD for (int64_t i = 0; i < n; i++) {
                const float y = 0.79788456f * (g[i] + 0.044715f * g[i] * g[i] * g[i]);
                u[i] *= g[i] / (1.0f + exp_(-2 * y));
            }
        } else {
            SIMD for (int64_t i = 0; i < n; i++) u[i] *= g[i] / (1.0f + exp_(-g[i]));
        }
        store((void *)at(s->out, r * s->width + from, s->type), u, n, s->type);
    }
}

/* gate_up [rows, 2 width] → out [rows, width]. */
void gated(
    const void *gate_up, void *out, int64_t rows, int64_t width, int gelu, int type, int64_t threads
) {
    struct gate s = {gate_up, out, rows, width, gelu, type};
    run_tasks(gate_task, &s, rows, threads);
}

/* ---- attention of one new token per row ---- */

struct attend {
    const void *q, *keys, *values; /* q, out: [tokens, heads, dim]; pools: [slots, kv_heads, dim] */
    void *out;
    const int64_t *token;          /* [rows] which of the tokens */
    const int64_t *context;        /* [rows] positions, the token's own included */
    const int64_t *tables, *table; /* block numbers of all rows; [rows] where each begins */
    int64_t rows, heads, kv_heads, dim, block_size, window;
    float scale, softcap;
    int type;
    int64_t *chunks; /* [rows + 1] chunks before each row */
    float *parts;    /* [chunks, heads, dim + 2]: a, m, l */
};

static int64_t first_seen(const struct attend *s, int64_t r) {
    return s->window && s->context[r] > s->window ? s->context[r] - s->window : 0;
}

/* Positions of a task of row r. */
static int64_t chunk_length(const struct attend *s, int64_t r) {
    const int64_t seen = s->context[r] - first_seen(s, r), step = TASKS * LEAST;
    const int64_t length = (seen + step - 1) / step * LEAST;
    return length < CHUNK ? length : CHUNK;
}

static inline float dot(const float *a, const float *b, int64_t n) {
    float sum = 0;
    SIMD_SUM(sum) for (int64_t i = 0; i < n; i++) sum += a[i] * b[i];
    return sum;
}

/* Keys or values of all key heads at one position, as float32: in place, or converted to `row`. */
static const float *position(const struct attend *s, const void *pool, int64_t slot, float *row) {
    const int64_t width = s->kv_heads * s->dim;
    const void *from = at(pool, slot * width, s->type);
    if (!s->type) return from;
    load(row, from, width, s->type);
    return row;
}

static void prefetch(const struct attend *s, const void *pool, int64_t slot) {
    const int64_t width = s->kv_heads * s->dim;
    const char *from = at(pool, slot * width, s->type);
    for (int64_t byte = 0; byte < width * (s->type ? 2 : 4); byte += 64) __builtin_prefetch(from + byte);
}

static void attend_task(void *arg, int64_t chunk) {
    const struct attend *s = arg;
    int64_t r = 0;
    while (s->chunks[r + 1] <= chunk) r++;
    const int64_t group = s->heads / s->kv_heads, dim = s->dim, heads = s->heads;
    const int64_t length = chunk_length(s, r);
    const int64_t from = first_seen(s, r) + (chunk - s->chunks[r]) * length;
    const int64_t n = s->context[r] - from < length ? s->context[r] - from : length;
    const int64_t *table = s->tables + s->table[r];
    float q[heads * dim], row[s->kv_heads * dim], scores[heads][CHUNK];
    int64_t slot[CHUNK + AHEAD];
    for (int64_t i = 0; i < n; i++)
        slot[i] = table[(from + i) / s->block_size] * s->block_size + (from + i) % s->block_size;
    for (int64_t i = n; i < n + AHEAD; i++) slot[i] = slot[n - 1];

    load(q, at(s->q, s->token[r] * heads * dim, s->type), heads * dim, s->type);
    for (int64_t i = 0; i < n; i++) {
        prefetch(s, s->keys, slot[i + AHEAD]);
        const float *keys = position(s, s->keys, slot[i], row);
        for (int64_t h = 0; h < heads; h++) {
            const float score = dot(q + h * dim, keys + h / group * dim, dim) * s->scale;
            scores[h][i] = s->softcap ? s->softcap * tanhf(score / s->softcap) : score;
        }
    }
    float *parts = s->parts + chunk * heads * (dim + 2);
    for (int64_t h = 0; h < heads; h++) {
        float *score = scores[h], *part = parts + h * (dim + 2), most = score[0], sum = 0;
        for (int64_t i = 1; i < n; i++) most = score[i] > most ? score[i] : most;
        SIMD for (int64_t i = 0; i < n; i++) score[i] = exp_(score[i] - most);
        SIMD_SUM(sum) for (int64_t i = 0; i < n; i++) sum += score[i];
        memset(part, 0, (size_t)dim * 4);
        part[dim] = most;
        part[dim + 1] = sum;
    }
    for (int64_t i = 0; i < n; i++) {
        prefetch(s, s->values, slot[i + AHEAD]);
        const float *values = position(s, s->values, slot[i], row);
        for (int64_t h = 0; h < heads; h++) {
            float *part = parts + h * (dim + 2);
            const float *v = values + h / group * dim;
            const float p = scores[h][i];
            SIMD for (int64_t d = 0; d < dim; d++) part[d] += p * v[d];
        }
    }
}

static void merge(const struct attend *s, int64_t r, int64_t head) {
    const int64_t dim = s->dim, stride = s->heads * (dim + 2);
    const float *part = s->parts + s->chunks[r] * stride + head * (dim + 2);
    const int64_t n = s->chunks[r + 1] - s->chunks[r];
    float out[MAX_DIM] = {0}, most = part[dim], sum = 0;
    for (int64_t c = 1; c < n; c++) most = part[c * stride + dim] > most ? part[c * stride + dim] : most;
    for (int64_t c = 0; c < n; c++) {
        const float *a = part + c * stride, weight = exp_(a[dim] - most);
        sum += weight * a[dim + 1];
        SIMD for (int64_t d = 0; d < dim; d++) out[d] += weight * a[d];
    }
    SIMD for (int64_t d = 0; d < dim; d++) out[d] /= sum;
    store((void *)at(s->out, (s->token[r] * s->heads + head) * dim, s->type), out, dim, s->type);
}

/* Returns 0, or -1 if there is no memory. */
int attend_one(struct attend *s, int64_t threads) {
    s->chunks = malloc((size_t)(s->rows + 1) * 8);
    if (!s->chunks) return -1;
    s->chunks[0] = 0;
    for (int64_t r = 0; r < s->rows; r++) {
        const int64_t seen = s->context[r] - first_seen(s, r), length = chunk_length(s, r);
        s->chunks[r + 1] = s->chunks[r] + (seen + length - 1) / length;
    }
    const int64_t chunks = s->chunks[s->rows];
    s->parts = malloc((size_t)(chunks * s->heads * (s->dim + 2)) * 4);
    if (s->parts) run_tasks(attend_task, s, chunks, threads);
    for (int64_t r = 0; s->parts && r < s->rows; r++)
        for (int64_t head = 0; head < s->heads; head++) merge(s, r, head);
    const int failed = s->parts == NULL;
    free(s->parts);
    free(s->chunks);
    return -failed;
}
