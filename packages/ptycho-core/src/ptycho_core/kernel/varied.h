/* Probes that vary from frame to frame (OPR). A sum of the (1 + L) K basis functions would move more memory than all
 * else together; so the spectra of a frame are added up first, filtered, and transformed.
 *
 * The filters are products of lines, f_a(y) f_b(x) with a + b <= degree, and their weights those of products s_a s_b; a
 * line is real where its number is even, and imaginary where it is odd. So the filter of a frame is, row by row,
 *
 *     sum over a of  s_a f_a(y) g_a(x),     g_a(x) = sum over b of  s_b f_b(x). */
#ifndef PTYCHO_VARIED_H
#define PTYCHO_VARIED_H

#include "probes.h"

/* Functions of a mode that a thread's gradient is kept for: those of the basis, or the spectra themselves. */
INLINE int functions_of(const Problem *p) { return p->lines ? 1 + p->n_variations : basis_of(p); }

INLINE int filters_of(const Problem *p) { return p->lines ? 1 : p->n_filters; }

/* A spectrum as planes. */
static void split_spectrum(const Problem *p, const float *spectrum, float *to) {
    const int n = p->plan.size, stride = stride_of(n);
    const ptrdiff_t pixels = plane_of(p);
    for (int row = 0; row < n; row++)
        for (int c = 0; c < n; c += WIDTH) {
            const ptrdiff_t q = (ptrdiff_t)row * (ptrdiff_t)stride + (ptrdiff_t)c;
            vec re, im;
            load_complex_lanes(spectrum + 2 * ((ptrdiff_t)row * (ptrdiff_t)n + (ptrdiff_t)c), n - c, &re, &im);
            store(to + q, re), store(to + pixels + q, im);
        }
}

/* How a frame mixes the spectra, and its filter. */
typedef struct {
    float mix[1 + MOST_VARIATIONS];
    const float *planes; /* 2 of n x n */
} Filter;

/* The filter of a frame, from its weights, in `lines`, room for the rows g_a, and `planes`. All modes and both ways use it. */
static Filter filter_of(const Problem *p, float *lines, float *planes, const float *weights) {
    const int n = p->plan.size, stride = stride_of(n), degree = p->degree;
    const ptrdiff_t pixels = plane_of(p);
    const float *most = weights; /* of the spectrum that counts most; a frame may be without the others, or dark */
    float along_y[MOST_DEGREE + 1], along_x[MOST_DEGREE + 1];
    Filter filter;
    for (int l = 0; l <= p->n_variations; l++) {
        filter.mix[l] = weights[l * p->n_filters];
        if (fabsf(filter.mix[l]) > fabsf(most[0])) most = weights + l * p->n_filters;
    }
    const float one = most[0] != 0 ? 1.0f / most[0] : 0;
    for (int a = 0, k = 0; a <= degree; a++) {
        along_y[a] = one * most[k];
        for (int b = 0; a + b <= degree; b++, k++)
            if (!a) along_x[b] = one * most[k];
    }
    for (int a = 0; a <= degree; a++)
        for (int c = 0; c < n; c += WIDTH) {
            vec part[2] = {{0}, {0}};
            for (int b = 0; a + b <= degree; b++)
                part[b % 2] += along_x[b] * load_lanes(p->lines + (ptrdiff_t)b * (ptrdiff_t)n + (ptrdiff_t)c, n - c);
            store(lines + (ptrdiff_t)(2 * a) * (ptrdiff_t)stride + c, part[0]);
            store(lines + (ptrdiff_t)(2 * a + 1) * (ptrdiff_t)stride + c, part[1]);
        }
    for (int row = 0; row < n; row++) {
        float factor[MOST_DEGREE + 1];
        for (int a = 0; a <= degree; a++) factor[a] = along_y[a] * p->lines[(ptrdiff_t)a * (ptrdiff_t)n + (ptrdiff_t)row];
        for (int c = 0; c < n; c += WIDTH) {
            const ptrdiff_t q = (ptrdiff_t)row * (ptrdiff_t)stride + (ptrdiff_t)c;
            vec fr = {0}, fi = {0};
            for (int a = 0; a <= degree; a++) {
                const vec gr = load(lines + (ptrdiff_t)(2 * a) * (ptrdiff_t)stride + c);
                const vec gi = load(lines + (ptrdiff_t)(2 * a + 1) * (ptrdiff_t)stride + c);
                if (a % 2)
                    fr -= factor[a] * gi, fi += factor[a] * gr;
                else
                    fr += factor[a] * gr, fi += factor[a] * gi;
            }
            store(planes + q, fr), store(planes + pixels + q, fi);
        }
    }
    filter.planes = planes;
    return filter;
}

/* The probe of a frame's mode: the inverse transform of its filtered sum of spectra. */
static void varied_probe(const Problem *p, Room *room, const Filter *filter, int mode, float *to) {
    const int n = p->plan.size, stride = stride_of(n), parts = 1 + p->n_variations;
    const ptrdiff_t pixels = plane_of(p), plane = 2 * pixels;
    const float *spectra = p->basis + (ptrdiff_t)(mode * parts) * plane;
    const float scale = 1.0f / (float)n;
    float *re = room->waves, *im = room->waves + pixels;
    for (int row = 0; row < n; row++)
        for (int c = 0; c < n; c += WIDTH) {
            const ptrdiff_t q = (ptrdiff_t)row * (ptrdiff_t)stride + (ptrdiff_t)c;
            const vec fr = load(filter->planes + q), fi = load(filter->planes + pixels + q);
            vec a = {0}, b = {0};
            for (int l = 0; l < parts; l++) {
                a += filter->mix[l] * load(spectra + (ptrdiff_t)l * plane + q);
                b += filter->mix[l] * load(spectra + (ptrdiff_t)l * plane + pixels + q);
            }
            store(re + q, scale * (a * fr - b * fi)), store(im + q, scale * (a * fi + b * fr));
        }
    transform_plane(&p->plan, &room->columns[0], im, re, room->spectra, to + pixels, to);
}

/* Take what is left of a frame's probe back to the spectra: their gradients and, where they are asked for, the slopes of the
 * misfit: by the weight of each spectrum, and by that of each filter of their sum (1 + L + K numbers). Those by every filter
 * of every spectrum would be (1 + L) K, and nobody needs them. */
static void varied_back(const Problem *p, Room *room, const Filter *filter, int mode, const float *left, float *gradient,
                        float *slopes) {
    const int n = p->plan.size, stride = stride_of(n), parts = 1 + p->n_variations, degree = p->degree;
    const ptrdiff_t pixels = plane_of(p), plane = 2 * pixels;
    const float *spectra = p->basis + (ptrdiff_t)(mode * parts) * plane;
    float *xr = room->waves, *xi = room->waves + pixels;
    vec by_weight[1 + MOST_VARIATIONS], by_filter[MOST_DEGREE + 1][MOST_DEGREE + 1];
    memset(by_weight, 0, sizeof by_weight), memset(by_filter, 0, sizeof by_filter);
    transform_plane(&p->plan, &room->columns[0], left, left + pixels, room->spectra, xr, xi);
    if (gradient) gradient += (ptrdiff_t)(mode * parts) * plane;
    for (int row = 0; row < n; row++) {
        vec along[MOST_DEGREE + 1][2];
        memset(along, 0, sizeof along);
        for (int c = 0; c < n; c += WIDTH) {
            const ptrdiff_t q = (ptrdiff_t)row * (ptrdiff_t)stride + (ptrdiff_t)c;
            const vec x = load(xr + q), y = load(xi + q);
            const vec fr = load(filter->planes + q), fi = load(filter->planes + pixels + q);
            const vec gr = x * fr + y * fi, gi = y * fr - x * fi;
            for (int l = 0; gradient && l < parts; l++) {
                float *to = gradient + (ptrdiff_t)l * plane + q;
                store(to, load(to) + filter->mix[l] * gr), store(to + pixels, load(to + pixels) + filter->mix[l] * gi);
            }
            if (!slopes) continue;
            vec a = {0}, b = {0};
            for (int l = 0; l < parts; l++) {
                const vec sr = load(spectra + (ptrdiff_t)l * plane + q), si = load(spectra + (ptrdiff_t)l * plane + pixels + q);
                by_weight[l] += sr * gr + si * gi;
                a += filter->mix[l] * sr, b += filter->mix[l] * si;
            }
            const vec mr = a * x + b * y, mi = a * y - b * x;
            for (int k = 0; k <= degree; k++) {
                const vec line = load_lanes(p->lines + (ptrdiff_t)k * (ptrdiff_t)n + (ptrdiff_t)c, n - c);
                along[k][0] += line * mr, along[k][1] += line * mi;
            }
        }
        for (int k = 0; slopes && k <= degree; k++)
            for (int b = 0; k + b <= degree; b++)
                by_filter[k][b] += p->lines[(ptrdiff_t)k * (ptrdiff_t)n + (ptrdiff_t)row] * along[b][(k + b) % 2];
    }
    if (!slopes) return;
    for (int l = 0; l < parts; l++) slopes[l] += sum_of(by_weight[l]) / (float)n;
    for (int a = 0, k = parts; a <= degree; a++)
        for (int b = 0; a + b <= degree; b++, k++) {
            const float sum = sum_of(by_filter[a][b]) / (float)n;
            slopes[k] += a % 2 && b % 2 ? -sum : sum;
        }
}

#endif
