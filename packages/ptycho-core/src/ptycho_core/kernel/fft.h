/* Fourier transforms of WIDTH columns at a time: Stockham's algorithm, which needs no reordering, with radix
 * 2, 3, 4, 5, 7 and 8 (C. Van Loan, Computational Frameworks for the Fast Fourier Transform, SIAM 1992).
 *
 * A plane of n x n pixels lies in memory as `stride` rows of `stride` floats, whole vectors each; what lies behind the
 * n-th row and column is 0 and stays so. */
#ifndef PTYCHO_FFT_H
#define PTYCHO_FFT_H

#include "vector.h"

enum { MOST_PASSES = 12 };

typedef struct {
    int32_t size, n_passes;
    int32_t radices[MOST_PASSES];
    const float *cosines, *sines; /* of -2 pi k / size */
} Plan;

/* Floats from one row of a plane to the next. */
INLINE int stride_of(int size) { return (size + WIDTH - 1) / WIDTH * WIDTH; }

/* Real and imaginary parts of `size` vectors, and room for a pass to write to. */
typedef struct {
    vec *re, *im, *spare_re, *spare_im;
} Columns;

INLINE void butterfly_2(vec *r, vec *i) {
    const vec ar = r[0] - r[1], ai = i[0] - i[1];
    r[0] += r[1], i[0] += i[1];
    r[1] = ar, i[1] = ai;
}

INLINE void butterfly_3(vec *r, vec *i) {
    const float s = 0.86602540378443864676f; /* sin(2 pi / 3) */
    vec sr = r[1] + r[2], si = i[1] + i[2], dr = s * (r[1] - r[2]), di = s * (i[1] - i[2]);
    vec mr = r[0] - 0.5f * sr, mi = i[0] - 0.5f * si;
    r[0] += sr, i[0] += si;
    r[1] = mr + di, i[1] = mi - dr;
    r[2] = mr - di, i[2] = mi + dr;
}

INLINE void butterfly_4(vec *r, vec *i) {
    vec ar = r[0] + r[2], ai = i[0] + i[2], br = r[0] - r[2], bi = i[0] - i[2];
    vec cr = r[1] + r[3], ci = i[1] + i[3], dr = r[1] - r[3], di = i[1] - i[3];
    r[0] = ar + cr, i[0] = ai + ci;
    r[1] = br + di, i[1] = bi - dr;
    r[2] = ar - cr, i[2] = ai - ci;
    r[3] = br - di, i[3] = bi + dr;
}

INLINE void butterfly_5(vec *r, vec *i) {
    const float c1 = 0.30901699437494742410f, c2 = -0.80901699437494742410f; /* cos(2 pi / 5), cos(4 pi / 5) */
    const float s1 = 0.95105651629515357212f, s2 = 0.58778525229247312917f;
    vec ar = r[1] + r[4], ai = i[1] + i[4], br = r[2] + r[3], bi = i[2] + i[3];
    vec cr = r[1] - r[4], ci = i[1] - i[4], dr = r[2] - r[3], di = i[2] - i[3];
    vec er = r[0] + c1 * ar + c2 * br, ei = i[0] + c1 * ai + c2 * bi;
    vec fr = r[0] + c2 * ar + c1 * br, fi = i[0] + c2 * ai + c1 * bi;
    vec gr = s1 * cr + s2 * dr, gi = s1 * ci + s2 * di, hr = s2 * cr - s1 * dr, hi = s2 * ci - s1 * di;
    r[0] += ar + br, i[0] += ai + bi;
    r[1] = er + gi, i[1] = ei - gr;
    r[4] = er - gi, i[4] = ei + gr;
    r[2] = fr + hi, i[2] = fi - hr;
    r[3] = fr - hi, i[3] = fi + hr;
}

INLINE void butterfly_7(vec *r, vec *i) {
    static const float c[3] = {0.62348980185873353053f, -0.22252093395631440429f, -0.90096886790241912624f};
    static const float s[3] = {0.78183148246802980871f, 0.97492791218182360702f, 0.43388373911755812048f};
    vec ar[3], ai[3], br[3], bi[3]; /* sums and differences of opposite inputs; c, s: cosine, sine of 2 pi (j + 1) / 7 */
    for (int j = 0; j < 3; j++) {
        ar[j] = r[j + 1] + r[6 - j], ai[j] = i[j + 1] + i[6 - j];
        br[j] = r[j + 1] - r[6 - j], bi[j] = i[j + 1] - i[6 - j];
    }
    for (int k = 1; k < 4; k++) {
        vec er = r[0], ei = i[0], gr = {0}, gi = {0};
        for (int j = 0; j < 3; j++) {
            const int turn = k * (j + 1) % 7, near = turn < 4 ? turn : 7 - turn;
            const float sine = turn < 4 ? s[near - 1] : -s[near - 1];
            er += c[near - 1] * ar[j], ei += c[near - 1] * ai[j];
            gr += sine * br[j], gi += sine * bi[j];
        }
        r[k] = er + gi, i[k] = ei - gr;
        r[7 - k] = er - gi, i[7 - k] = ei + gr;
    }
    r[0] += ar[0] + ar[1] + ar[2], i[0] += ai[0] + ai[1] + ai[2];
}

INLINE void butterfly_8(vec *r, vec *i) {
    const float h = 0.70710678118654752440f; /* cos(pi / 4) */
    vec er[4] = {r[0], r[2], r[4], r[6]}, ei[4] = {i[0], i[2], i[4], i[6]};
    vec or[4] = {r[1], r[3], r[5], r[7]}, oi[4] = {i[1], i[3], i[5], i[7]};
    butterfly_4(er, ei);
    butterfly_4(or, oi);
    vec tr[4] = {or[0], h * (or[1] + oi[1]), oi[2], h * (oi[3] - or[3])};
    vec ti[4] = {oi[0], h * (oi[1] - or[1]), -or[2], -h * (or[3] + oi[3])};
    for (int k = 0; k < 4; k++) {
        r[k] = er[k] + tr[k], i[k] = ei[k] + ti[k];
        r[k + 4] = er[k] - tr[k], i[k + 4] = ei[k] - ti[k];
    }
}

/* One pass: `length` is what is left of the transform, `stride` what the passes before have done. */
#define PASS(R)                                                                                            \
    INLINE void pass_##R(const Plan *plan, Columns *at, int length, int stride) {                          \
        const int m = length / R;                                                                          \
        for (int p = 0; p < m; p++) {                                                                      \
            vec c[R], s[R];                                                                                \
            for (int j = 1; j < R; j++) {                                                                  \
                c[j] = all(plan->cosines[p * j * stride]);                                                 \
                s[j] = all(plan->sines[p * j * stride]);                                                   \
            }                                                                                              \
            for (int q = 0; q < stride; q++) {                                                             \
                vec r[R], i[R];                                                                            \
                for (int j = 0; j < R; j++) {                                                              \
                    r[j] = at->re[q + stride * (p + m * j)];                                               \
                    i[j] = at->im[q + stride * (p + m * j)];                                               \
                }                                                                                          \
                butterfly_##R(r, i);                                                                       \
                vec *yr = at->spare_re + q + stride * R * p, *yi = at->spare_im + q + stride * R * p;      \
                yr[0] = r[0], yi[0] = i[0];                                                                \
                for (int j = 1; j < R; j++) {                                                              \
                    yr[stride * j] = r[j] * c[j] - i[j] * s[j];                                            \
                    yi[stride * j] = r[j] * s[j] + i[j] * c[j];                                            \
                }                                                                                          \
            }                                                                                              \
        }                                                                                                  \
    }
PASS(2)
PASS(3)
PASS(4)
PASS(5)
PASS(7)
PASS(8)

INLINE void swap(vec **a, vec **b) {
    vec *t = *a;
    *a = *b;
    *b = t;
}

/* Transform in place: afterwards `at->re` and `at->im` point to the result. The inverse is the same transform
 * with the real and imaginary parts exchanged before and after. */
static void fft_columns(const Plan *plan, Columns *at) {
    int length = plan->size, stride = 1;
    for (int k = 0; k < plan->n_passes; k++) {
        const int radix = plan->radices[k];
        switch (radix) {
        case 8: pass_8(plan, at, length, stride); break;
        case 7: pass_7(plan, at, length, stride); break;
        case 5: pass_5(plan, at, length, stride); break;
        case 4: pass_4(plan, at, length, stride); break;
        case 3: pass_3(plan, at, length, stride); break;
        default: pass_2(plan, at, length, stride);
        }
        swap(&at->re, &at->spare_re);
        swap(&at->im, &at->spare_im);
        length /= radix;
        stride *= radix;
    }
}

INLINE void exchange(Columns *at) {
    swap(&at->re, &at->im);
    swap(&at->spare_re, &at->spare_im);
}

INLINE void inverse_columns(const Plan *plan, Columns *at) {
    exchange(at);
    fft_columns(plan, at);
    exchange(at);
}

/* Read WIDTH columns of a plane from column c on. */
INLINE void load_columns(vec *to, const float *plane, int size, int c) {
    const int stride = stride_of(size);
    for (int row = 0; row < size; row++) to[row] = load(plane + (ptrdiff_t)row * stride + c);
}

/* Write `size` vectors of columns as rows of a plane, transposed, from row c on. */
INLINE void store_rows(const vec *from, float *plane, int size, int c) {
    const int stride = stride_of(size), rows = size - c < WIDTH ? size - c : WIDTH;
    for (int block = 0; block < size; block += WIDTH) {
        vec tile[WIDTH];
        for (int k = 0; k < WIDTH; k++) tile[k] = block + k < size ? from[block + k] : (vec){0};
        transpose(tile);
        for (int k = 0; k < rows; k++) store(plane + (ptrdiff_t)(c + k) * stride + block, tile[k]);
    }
}

/* Read rows c, c + 1, ... of an image that Python owns as columns; its rows begin `stride` floats apart. The last row
 * stands for those behind it. */
INLINE void load_rows(vec *to, const float *image, int64_t stride, int size, int c) {
    for (int block = 0; block < size; block += WIDTH) {
        for (int k = 0; k < WIDTH; k++) {
            const int row = c + k < size ? c + k : size - 1;
            to[block + k] = load_lanes(image + row * stride + block, size - block);
        }
        transpose(to + block);
    }
}

#endif
