/* How badly an image explains frames at other places: for each frame and place the exit wave, folded as
 * `ptycho_core.solver.places` says, its transform, and the misfit of the moduli at the scale that suits them best. */
#ifndef PTYCHO_PLACES_H
#define PTYCHO_PLACES_H

#include "fft.h"

/* Mirrored by `Places` in structs.py. */
typedef struct {
    Plan plan;              /* of the side m that is compared: that of a frame, or half of it */
    int32_t frame_px, n_modes, n_frames, n_places;
    const float *probes;    /* (P, frames, n, n) complex: the probe of each frame */
    const float *object;    /* canvas, complex */
    int64_t canvas_width;
    const int32_t *corners; /* (places, frames, 2): row and column on the canvas */
    const float *amplitude; /* (frames, m, m), 0 at bad pixels */
    const float *good;      /* (m, m) or (frames, m, m); NULL: all pixels are good */
    int64_t good_stride;    /* floats from one frame's to the next's; 0: one for all */
    float *scratch;         /* ptycho_places_floats */
    float *misfits;         /* (places, frames) */
} Places;

/* What a thread works on. A strip holds WIDTH rows of a frame as columns. */
typedef struct {
    Columns columns;
    float *wave, *spectrum;             /* two planes each */
    vec *measured, *weight, *intensity; /* (strips, m) */
} Lookout;

int64_t ptycho_places_floats(int32_t size) {
    const int64_t stride = stride_of(size);
    return 7 * stride * stride + 4 * stride * WIDTH + WIDTH;
}

static Lookout lookout_of(const Places *p) {
    const ptrdiff_t n = stride_of(p->plan.size), plane = n * n, column = n * WIDTH;
    float *at = (float *)(((uintptr_t)p->scratch + sizeof(vec) - 1) & ~(uintptr_t)(sizeof(vec) - 1));
    Lookout view;
    view.columns.re = (vec *)at, view.columns.im = (vec *)(at + column);
    view.columns.spare_re = (vec *)(at + 2 * column), view.columns.spare_im = (vec *)(at + 3 * column);
    at += 4 * column;
    view.wave = at, view.spectrum = at + 2 * plane;
    view.measured = (vec *)(at + 4 * plane), view.weight = (vec *)(at + 5 * plane);
    view.intensity = (vec *)(at + 6 * plane);
    return view;
}

/* An image's rows as columns, strip for strip; lanes that stand for no row are 0. */
static void turn_strips(const float *image, int size, vec *to) {
    for (int c = 0; c < size; c += WIDTH, to += size) {
        for (int block = 0; block < size; block += WIDTH) {
            vec tile[WIDTH];
            for (int k = 0; k < WIDTH; k++)
                tile[k] = c + k < size ? load_lanes(image + (ptrdiff_t)(c + k) * size + block, size - block) : (vec){0};
            transpose(tile);
            for (int k = 0; k < WIDTH && block + k < size; k++) to[block + k] = tile[k];
        }
    }
}

/* The exit wave of a mode as two planes; where the side that is compared is half of the frame's, its quarters are laid
 * upon each other. */
static void fold_wave(const Places *p, const Lookout *view, const float *probe, const float *object) {
    const int n = p->frame_px, m = p->plan.size, stride = stride_of(m);
    float *im = view->wave + (ptrdiff_t)stride * stride;
    for (int row = 0; row < m; row++) {
        for (int c = 0; c < m; c += WIDTH) {
            const int lanes = m - c;
            vec sum_re = {0}, sum_im = {0};
            for (int down = row; down < n; down += m) {
                for (int right = c; right < n; right += m) {
                    vec a, b, x, y;
                    load_complex_lanes(probe + 2 * ((ptrdiff_t)down * n + right), lanes, &a, &b);
                    load_complex_lanes(object + 2 * (down * p->canvas_width + right), lanes, &x, &y);
                    sum_re += a * x - b * y, sum_im += a * y + b * x;
                }
            }
            store(view->wave + (ptrdiff_t)row * stride + c, sum_re), store(im + (ptrdiff_t)row * stride + c, sum_im);
        }
    }
}

/* The transform's squared modulus, unscaled, in strips; added to what is there but for the first mode. */
static void add_intensity(const Places *p, Lookout *view, int first) {
    const int m = p->plan.size, stride = stride_of(m);
    const ptrdiff_t plane = (ptrdiff_t)stride * stride;
    Columns *at = &view->columns;
    for (int c = 0; c < m; c += WIDTH) {
        load_columns(at->re, view->wave, m, c), load_columns(at->im, view->wave + plane, m, c);
        fft_columns(&p->plan, at);
        store_rows(at->re, view->spectrum, m, c), store_rows(at->im, view->spectrum + plane, m, c);
    }
    vec *to = view->intensity;
    for (int c = 0; c < m; c += WIDTH, to += m) {
        load_columns(at->re, view->spectrum, m, c), load_columns(at->im, view->spectrum + plane, m, c);
        fft_columns(&p->plan, at);
        for (int k = 0; k < m; k++) {
            const vec seen = at->re[k] * at->re[k] + at->im[k] * at->im[k];
            to[k] = first ? seen : to[k] + seen;
        }
    }
}

/* sum |s modulus - measured| / sum measured, with the s that makes the sum of squares least. */
static float misfit_of(const Lookout *view, ptrdiff_t vectors, float total) {
    const vec least = all(1e-30f); /* no division by a modulus of 0 */
    vec power = {0}, both = {0}, off = {0};
    for (ptrdiff_t k = 0; k < vectors; k++) {
        const vec seen = larger_of(view->intensity[k], least);
        const vec modulus = seen * reciprocal_root(seen) * view->weight[k];
        view->intensity[k] = modulus;
        power += modulus * modulus, both += modulus * view->measured[k];
    }
    const float whole = sum_of(power), scale = sum_of(both) / (whole > 1e-30f ? whole : 1e-30f);
    for (ptrdiff_t k = 0; k < vectors; k++) off += magnitude(scale * view->intensity[k] - view->measured[k]);
    return sum_of(off) / total;
}

void ptycho_places(const Places *p) {
    const int m = p->plan.size;
    const ptrdiff_t frame = (ptrdiff_t)p->frame_px * p->frame_px, compared = (ptrdiff_t)m * m;
    const ptrdiff_t vectors = (ptrdiff_t)m * ((m + WIDTH - 1) / WIDTH);
    Lookout view = lookout_of(p);
    for (int f = 0; f < p->n_frames; f++) {
        turn_strips(p->amplitude + f * compared, m, view.measured);
        if (p->good && (!f || p->good_stride)) turn_strips(p->good + f * p->good_stride, m, view.weight);
        vec sum = {0};
        for (ptrdiff_t k = 0; k < vectors; k++) {
            sum += view.measured[k];
            if (!p->good) view.weight[k] = all(1);
        }
        const float total = larger_of(all(sum_of(sum)), all(1e-30f))[0];
        for (int place = 0; place < p->n_places; place++) {
            const ptrdiff_t at = (ptrdiff_t)place * p->n_frames + f;
            const float *object = p->object + 2 * (p->corners[2 * at] * p->canvas_width + p->corners[2 * at + 1]);
            for (int mode = 0; mode < p->n_modes; mode++) {
                fold_wave(p, &view, p->probes + 2 * ((ptrdiff_t)mode * p->n_frames + f) * frame, object);
                add_intensity(p, &view, !mode);
            }
            p->misfits[at] = misfit_of(&view, vectors, total);
        }
    }
}

#endif
