/* Vectors of floats as wide as the processor has them, by the vector extensions of GCC and Clang. */
#ifndef PTYCHO_VECTOR_H
#define PTYCHO_VECTOR_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#if defined(__SSE__)
#include <immintrin.h>
#endif

/* LOW and HIGH interleave the halves of two vectors; EVEN and ODD undo it. */
#if defined(__AVX512F__)
#define WIDTH 16
#define LOW 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23
#define HIGH 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31
#define EVEN 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30
#define ODD 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31
#elif defined(__AVX__)
#define WIDTH 8
#define LOW 0, 8, 1, 9, 2, 10, 3, 11
#define HIGH 4, 12, 5, 13, 6, 14, 7, 15
#define EVEN 0, 2, 4, 6, 8, 10, 12, 14
#define ODD 1, 3, 5, 7, 9, 11, 13, 15
#else
#define WIDTH 4
#define LOW 0, 4, 1, 5
#define HIGH 2, 6, 3, 7
#define EVEN 0, 2, 4, 6
#define ODD 1, 3, 5, 7
#endif

#define INLINE static inline __attribute__((always_inline))

typedef float vec __attribute__((vector_size(4 * WIDTH)));
typedef float loose_vec __attribute__((vector_size(4 * WIDTH), aligned(4), may_alias));
typedef int32_t int_vec __attribute__((vector_size(4 * WIDTH)));
typedef uint16_t code_vec __attribute__((vector_size(2 * WIDTH)));
typedef uint16_t loose_code_vec __attribute__((vector_size(2 * WIDTH), aligned(2), may_alias));

#if defined(__clang__) || __GNUC__ >= 12
#define SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define SHUFFLE(a, b, ...) __builtin_shuffle(a, b, (int_vec){__VA_ARGS__})
#endif

INLINE vec load(const float *from) { return *(const loose_vec *)from; }
INLINE void store(float *to, vec a) { *(loose_vec *)to = a; }
INLINE vec all(float a) { return (vec){0} + a; }

INLINE void copy(float *to, const float *from, ptrdiff_t floats) { memcpy(to, from, sizeof(float) * (size_t)floats); }
INLINE void clear(float *to, ptrdiff_t floats) { memset(to, 0, sizeof(float) * (size_t)floats); }

/* Complex numbers lie in memory as re, im, re, im; here they are two vectors. */
INLINE void load_complex(const float *from, vec *re, vec *im) {
    vec a = load(from), b = load(from + WIDTH);
    *re = SHUFFLE(a, b, EVEN);
    *im = SHUFFLE(a, b, ODD);
}

INLINE void store_complex(float *to, vec re, vec im) {
    store(to, SHUFFLE(re, im, LOW));
    store(to + WIDTH, SHUFFLE(re, im, HIGH));
}

/* The same for the lanes that are there, at most all of them: nothing behind them is touched, and the others are 0. */
INLINE vec load_lanes(const float *from, int lanes) {
    if (lanes >= WIDTH) return load(from);
    vec a = {0};
    memcpy(&a, from, sizeof(float) * (size_t)lanes);
    return a;
}

INLINE void load_complex_lanes(const float *from, int lanes, vec *re, vec *im) {
    if (lanes >= WIDTH) {
        load_complex(from, re, im);
        return;
    }
    float part[2 * WIDTH] = {0};
    memcpy(part, from, 2 * sizeof(float) * (size_t)lanes);
    load_complex(part, re, im);
}

INLINE void store_complex_lanes(float *to, int lanes, vec re, vec im) {
    if (lanes >= WIDTH) {
        store_complex(to, re, im);
        return;
    }
    float part[2 * WIDTH];
    store_complex(part, re, im);
    memcpy(to, part, 2 * sizeof(float) * (size_t)lanes);
}

/* Numbers of two bytes as floats, with the lanes that are there as above. */
INLINE vec load_codes(const uint16_t *from, int lanes) {
    code_vec a = {0};
    if (lanes >= WIDTH)
        a = *(const loose_code_vec *)from;
    else
        memcpy(&a, from, sizeof(uint16_t) * (size_t)lanes);
#if defined(__clang__) || __GNUC__ >= 9
    return __builtin_convertvector(__builtin_convertvector(a, int_vec), vec);
#else
    vec whole;
    for (int lane = 0; lane < WIDTH; lane++) whole[lane] = (float)a[lane];
    return whole;
#endif
}

/* The first lanes of a vector; the others are 0. */
INLINE vec first_lanes(vec a, int lanes) {
    for (int lane = lanes; lane < WIDTH; lane++) a[lane] = 0;
    return a;
}

INLINE vec magnitude(vec a) { return (vec)((int_vec)a & 0x7fffffff); }

INLINE vec larger_of(vec a, vec b) {
    const int_vec a_wins = a > b;
    return (vec)(((int_vec)a & a_wins) | ((int_vec)b & ~a_wins));
}

INLINE float sum_of(vec a) {
    float total = 0;
    for (int lane = 0; lane < WIDTH; lane++) total += a[lane];
    return total;
}

INLINE float largest_of(vec a) {
    float most = a[0];
    for (int lane = 1; lane < WIDTH; lane++) most = a[lane] > most ? a[lane] : most;
    return most;
}

/* sqrt(a), rounded as IEEE 754 says. */
INLINE vec square_root(vec a) {
#if defined(__AVX512F__)
    return (vec)_mm512_sqrt_ps((__m512)a);
#elif defined(__AVX__)
    return (vec)_mm256_sqrt_ps((__m256)a);
#elif defined(__SSE__)
    return (vec)_mm_sqrt_ps((__m128)a);
#else
    vec r;
    for (int lane = 0; lane < WIDTH; lane++) r[lane] = sqrtf(a[lane]);
    return r;
#endif
}

/* 1 / sqrt(a): the processor's estimate and one Newton step, good to a few units in the last place. */
INLINE vec reciprocal_root(vec a) {
#if defined(__AVX512F__)
    vec r = (vec)_mm512_rsqrt14_ps((__m512)a);
#elif defined(__AVX__)
    vec r = (vec)_mm256_rsqrt_ps((__m256)a);
#elif defined(__SSE__)
    vec r = (vec)_mm_rsqrt_ps((__m128)a);
#else
    vec r;
    for (int lane = 0; lane < WIDTH; lane++) r[lane] = 1.0f / sqrtf(a[lane]);
    return r;
#endif
    return r * (1.5f - 0.5f * a * r * r);
}

/* Natural logarithm of positive normal numbers, good to some units in the last place: the exponent, and of the
 * mantissa m, brought between 1/sqrt(2) and sqrt(2), the series of 2 artanh((m - 1) / (m + 1)). */
INLINE vec natural_log(vec a) {
    const int_vec bits = (int_vec)a - 0x3f3504f3, exponent = bits >> 23;
    const vec m = (vec)((bits & 0x007fffff) + 0x3f3504f3);
    const vec s = (m - 1.0f) / (m + 1.0f), t = s * s;
    const vec series = s * (2.0f + t * (0.66666667f + t * (0.4f + t * (0.28571429f + t * 0.22222222f))));
#if defined(__clang__) || __GNUC__ >= 9
    return __builtin_convertvector(exponent, vec) * 0.69314718f + series;
#else
    vec whole;
    for (int lane = 0; lane < WIDTH; lane++) whole[lane] = (float)exponent[lane];
    return whole * 0.69314718f + series;
#endif
}

/* Transpose WIDTH vectors: interleaving rows i and i + WIDTH/2, once for every bit of the index. */
INLINE void transpose(vec *a) {
    vec t[WIDTH];
    for (int bit = 1; bit < WIDTH; bit *= 2) {
        for (int i = 0; i < WIDTH / 2; i++) {
            t[2 * i] = SHUFFLE(a[i], a[i + WIDTH / 2], LOW);
            t[2 * i + 1] = SHUFFLE(a[i], a[i + WIDTH / 2], HIGH);
        }
        for (int i = 0; i < WIDTH; i++) a[i] = t[i];
    }
}

#endif
