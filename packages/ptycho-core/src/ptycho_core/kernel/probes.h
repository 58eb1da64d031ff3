/* Probes of frames as sums of basis functions, which are the probe moved by each filter, and the adjoint. */
#ifndef PTYCHO_PROBES_H
#define PTYCHO_PROBES_H

#include "problem.h"

enum { STRIP = 4096 };

/* Planes -> planes, both (y, x), unscaled; `work` has room for two planes. */
static void transform_plane(const Plan *plan, Columns *at, const float *re, const float *im, float *work, float *to_re,
                            float *to_im) {
    const int n = plan->size;
    const ptrdiff_t pixels = (ptrdiff_t)stride_of(n) * stride_of(n);
    for (int c = 0; c < n; c += WIDTH) {
        load_columns(at->re, re, n, c), load_columns(at->im, im, n, c);
        fft_columns(plan, at);
        store_rows(at->re, work, n, c), store_rows(at->im, work + pixels, n, c);
    }
    for (int c = 0; c < n; c += WIDTH) {
        load_columns(at->re, work, n, c), load_columns(at->im, work + pixels, n, c);
        fft_columns(plan, at);
        store_rows(at->re, to_re, n, c), store_rows(at->im, to_im, n, c);
    }
}

/* Spectrum of a mode (part 0) or of one of its variations. */
INLINE float *spectrum_of(const Problem *p, int mode, int part) {
    const ptrdiff_t image = 2 * (ptrdiff_t)p->plan.size * p->plan.size;
    return part ? p->variations + (ptrdiff_t)(mode * p->n_variations + part - 1) * image : p->spectrum + mode * image;
}

/* The probe, moved by one basis function, or (filter NULL) as it is: inverse transform of its filtered spectrum. `in` and
 * `work` have room for two planes each. */
static void filtered_probe(const Problem *p, Columns *columns, float *in, float *work, const float *spectrum,
                           const float *filter, float *to) {
    const int n = p->plan.size, stride = stride_of(n);
    const ptrdiff_t pixels = plane_of(p);
    const float scale = 1.0f / (float)n;
    float *re = in, *im = in + pixels;
    for (int row = 0; row < n; row++) {
        for (int column = 0; column < n; column += WIDTH) {
            const ptrdiff_t from = 2 * ((ptrdiff_t)row * n + column), q = (ptrdiff_t)row * stride + column;
            vec a, b, c = all(1), d = all(0);
            load_complex_lanes(spectrum + from, n - column, &a, &b);
            if (filter) load_complex_lanes(filter + from, n - column, &c, &d);
            store(re + q, scale * (a * c - b * d));
            store(im + q, scale * (a * d + b * c));
        }
    }
    transform_plane(&p->plan, columns, im, re, work, to + pixels, to);
}

static void make_basis(const Problem *p, Room *room, const float *spectrum, const float *filter, float *to) {
    filtered_probe(p, &room->columns[0], room->waves, room->spectra, spectrum, filter, to);
}

static void make_light(const Problem *p, Room *room) {
    const ptrdiff_t pixels = plane_of(p), image = 2 * (ptrdiff_t)p->plan.size * p->plan.size;
    float *wave = room->probes;
    for (int m = 0; m < p->n_modes; m++) {
        make_basis(p, room, p->spectrum + m * image, NULL, wave);
        for (ptrdiff_t q = 0; q < pixels; q += WIDTH) {
            vec a = load(wave + q), b = load(wave + pixels + q), light = a * a + b * b;
            store(p->light + q, m ? load(p->light + q) + light : light);
        }
    }
}

/* The probes of up to BLOCK frames: sums of `n_basis` basis functions with real weights. A plane is two here. */
static void combine(const float *basis, int n_basis, ptrdiff_t plane, const float *const *weights, int count, float *probes) {
    for (ptrdiff_t q = 0; q < plane; q += 2 * WIDTH) {
        vec sums[BLOCK][2] = {{{0}}};
        for (int k = 0; k < n_basis; k++) {
            const vec a = load(basis + k * plane + q), b = load(basis + k * plane + q + WIDTH);
            for (int f = 0; f < BLOCK; f++) sums[f][0] += weights[f][k] * a, sums[f][1] += weights[f][k] * b;
        }
        for (int f = 0; f < count; f++) {
            store(probes + f * plane + q, sums[f][0]);
            store(probes + f * plane + q + WIDTH, sums[f][1]);
        }
    }
}

/* The adjoint of `combine`, added to the thread's gradient. */
static void project(const Problem *p, Room *room, int mode, const float *const *weights, int count, float *gradient) {
    const ptrdiff_t plane = 2 * plane_of(p);
    const int n_basis = basis_of(p);
    const float *probes = room->probes + (ptrdiff_t)mode * BLOCK * plane;
    gradient += (ptrdiff_t)mode * n_basis * plane;
    for (ptrdiff_t q = 0; q < plane; q += 2 * WIDTH) {
        vec x[BLOCK][2] = {{{0}}};
        for (int f = 0; f < count; f++)
            x[f][0] = load(probes + f * plane + q), x[f][1] = load(probes + f * plane + q + WIDTH);
        for (int k = 0; k < n_basis; k++) {
            float *to = gradient + k * plane + q;
            vec a = load(to), b = load(to + WIDTH);
            for (int f = 0; f < BLOCK; f++) a += weights[f][k] * x[f][0], b += weights[f][k] * x[f][1];
            store(to, a), store(to + WIDTH, b);
        }
    }
}

/* Overlaps (count, (1 + L) K) of what `explain` left of the probes of up to BLOCK frames with the basis functions, added
 * up over the modes. Strips of the planes stay in the cache while all functions pass by. */
static void overlap(const Problem *p, const Room *room, int mode, int count, float *overlaps) {
    const ptrdiff_t plane = 2 * plane_of(p);
    const int n_basis = basis_of(p);
    const float *basis = p->basis + (ptrdiff_t)mode * n_basis * plane;
    const float *probes = room->probes + (ptrdiff_t)mode * BLOCK * plane;
    if (!mode) clear(overlaps, (ptrdiff_t)count * n_basis);
    for (ptrdiff_t from = 0; from < plane; from += STRIP) {
        const ptrdiff_t to = plane - from < STRIP ? plane : from + STRIP;
        for (int k = 0; k < n_basis; k++) {
            vec sums[BLOCK] = {{0}};
            for (ptrdiff_t q = from; q < to; q += WIDTH) {
                const vec a = load(basis + (ptrdiff_t)k * plane + q);
                for (int f = 0; f < BLOCK; f++) sums[f] += a * load(probes + (ptrdiff_t)f * plane + q);
            }
            for (int f = 0; f < count; f++) overlaps[f * n_basis + k] += sum_of(sums[f]);
        }
    }
}

#endif
