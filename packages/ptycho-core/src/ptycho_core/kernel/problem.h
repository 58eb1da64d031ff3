/* What Python tells the kernel, how large its rooms are, and where a thread finds its own. */
#ifndef PTYCHO_PROBLEM_H
#define PTYCHO_PROBLEM_H

#include "fft.h"

#include <stddef.h>

enum { BLOCK = 4, MOST_MODES = 16, MOST_VARIATIONS = 16, MOST_DEGREE = 7 };

/* From this code on, see `code_step`; `_BRIGHT` in coded_frames.py. */
enum { BRIGHT = 49152 };

/* What is summed up: |sqrt(l) - A|; the deviance of Poisson counts; 2 (sqrt(l) - sqrt(t))^2, which is the deviance where
 * both are close, and takes it less ill where they are not. */
enum { MODULI, POISSON, ROOTS };

/* Mirrored by `Problem` in structs.py. */
typedef struct {
    Plan plan;
    int32_t n_modes, n_filters, n_variations, n_threads;
    int32_t good_kind;           /* 0 all pixels are good, 1 one mask for all frames, 2 one for each */
    float offset;                /* background and softening, counts per pixel */
    int32_t misfit;              /* MODULI, POISSON or ROOTS, see there */
    float softening;             /* counts added to those measured, a part of `offset`; not for MODULI */
    const float *filters;        /* (K, n, n) complex */
    int32_t degree;
    const float *lines;          /* (degree + 1, n) whose products are the filters, see varied.h; NULL: none are needed */
    const void *amplitude;       /* (frames, n, n), perhaps the middle of larger frames: floats, or with */
    const float *code_step;      /* (frames,) uint16_t: counts where this is 0, amplitudes in steps of it where it is */
                                 /* more; where it is less, counts up to BRIGHT and then amplitudes in steps of -it */
    float code_added;            /* counts that are added to what codes say */
    int64_t frame_stride, row_stride; /* items from one of its frames and rows to the next */
    const float *good;           /* (n, n) or (frames, n, n) */
    float *spectrum, *spectrum_velocity; /* (P, n, n) complex */
    float *variations;           /* (P, L, n, n) complex: spectra that frames add with weights of their own (OPR) */
    float *object, *object_velocity;     /* canvas, complex */
    int64_t canvas_width;
    float *basis;                /* (P, (1 + L) K, 2) planes: spectrum and variations, moved by each filter; with */
    float *basis_gradient;       /* (threads, P, (1 + L) K, 2) planes      lines (P, 1 + L, 2): the spectra */
    float *light;                /* a plane */
    float *coverage;             /* (rows of the window, canvas width + WIDTH) */
    float *object_gradient;      /* (largest batch, 2) planes */
    float *scratch;              /* (threads, ptycho_scratch_floats) */
    int64_t scratch_floats;
    float *frame_misfit;         /* (frames,): what `explain` found for each frame when it was last seen */
} Problem;

/* Mirrored by `Batch` in structs.py. */
typedef struct {
    int64_t first_frame;
    int32_t n_frames;
    const int32_t *corners; /* (frames, 2): row and column on the canvas */
    const float *weights;   /* (frames, (1 + L) K) of the basis functions: their sum is the probe of a frame */
    int32_t row_start, row_stop, column_start, column_stop; /* the window of the canvas that the batch may change */
    float object_step, probe_step, object_momentum, probe_momentum, object_floor;
    int32_t gradient_only; /* nothing moves: what would move it is added to the velocities, undivided */
    float *overlaps;  /* (frames, (1 + L) K): of the pulled-back misfit with the basis functions; with lines
                         (frames, 1 + L + K), see `varied_back`; or NULL */
    float *curvature; /* (frames, 3): of the misfit by the position, along y y, y x and x x; or NULL */
} Batch;

/* Where a thread keeps what it works on. */
typedef struct {
    Columns columns[MOST_MODES];
    float *probes;            /* (P, BLOCK, 2, n, n) */
    float *waves, *spectra;   /* (P, 2, n, n) each */
    vec *measured, *weight;   /* a row of vectors each: a strip of a frame and of its mask, transposed */
    float *row;               /* (2, canvas width) */
    float *lines, *filter;    /* (MOST_DEGREE + 1, 2) rows of a plane; (2, n, n) */
} Room;

/* Floats of a plane, whatever lies behind its rows and columns included. */
INLINE ptrdiff_t plane_of(const Problem *p) { return (ptrdiff_t)stride_of(p->plan.size) * stride_of(p->plan.size); }

/* Measured amplitudes of a row of a frame, from column c on; the lanes behind its end mean nothing. */
INLINE vec measured_lanes(const Problem *p, int64_t frame, int row, int c) {
    const int lanes = p->plan.size - c;
    const ptrdiff_t at = (ptrdiff_t)(frame * p->frame_stride + row * p->row_stride + c);
    if (!p->code_step) return load_lanes((const float *)p->amplitude + at, lanes);
    const vec codes = load_codes((const uint16_t *)p->amplitude + at, lanes);
    const float step = p->code_step[frame];
    if (step == 0) return square_root(codes + p->code_added);
    vec amplitude = codes * step;
    if (step < 0) {
        const int_vec bright = codes >= (float)BRIGHT;
        const vec above = sqrtf((float)BRIGHT) - step * (codes - (float)BRIGHT), below = square_root(codes);
        amplitude = (vec)(((int_vec)above & bright) | ((int_vec)below & ~bright));
    }
    return p->code_added == 0 ? amplitude : square_root(amplitude * amplitude + p->code_added);
}

/* Rows c, c + 1, ... of a frame's measured amplitudes as columns; the last row stands for those behind it. */
INLINE void load_measured(const Problem *p, int64_t frame, vec *to, int c) {
    const int n = p->plan.size;
    for (int block = 0; block < n; block += WIDTH) {
        for (int k = 0; k < WIDTH; k++)
            to[block + k] = measured_lanes(p, frame, c + k < n ? c + k : n - 1, block);
        transpose(to + block);
    }
}

INLINE int basis_of(const Problem *p) { return p->n_filters * (1 + p->n_variations); }

int64_t ptycho_plane_floats(int32_t size) { return (int64_t)stride_of(size) * stride_of(size); }

int64_t ptycho_scratch_floats(int32_t size, int32_t n_modes, int64_t canvas_width) {
    return ptycho_plane_floats(size) * 2 * (n_modes * (BLOCK + 2) + 1) +
           (int64_t)(2 * n_modes + 4) * stride_of(size) * WIDTH + 2 * (canvas_width + WIDTH) +
           (int64_t)2 * (MOST_DEGREE + 1) * stride_of(size) + 32 * WIDTH;
}

int32_t ptycho_vector_width(void) { return WIDTH; }

static Room room_of(const Problem *p, int32_t thread) {
    const ptrdiff_t pixels = plane_of(p);
    const int n = stride_of(p->plan.size), modes = p->n_modes;
    float *at = p->scratch + (ptrdiff_t)thread * p->scratch_floats;
    at = (float *)(((uintptr_t)at + 63) & ~(uintptr_t)63);
    Room room;
    vec *columns = (vec *)at;
    for (int m = 0; m < modes; m++) {
        room.columns[m].re = columns + (ptrdiff_t)2 * m * n;
        room.columns[m].im = columns + (ptrdiff_t)(2 * m + 1) * n;
        room.columns[m].spare_re = columns + (ptrdiff_t)2 * modes * n;
        room.columns[m].spare_im = columns + (ptrdiff_t)(2 * modes + 1) * n;
    }
    room.measured = columns + (ptrdiff_t)(2 * modes + 2) * n;
    room.weight = columns + (ptrdiff_t)(2 * modes + 3) * n;
    at += (ptrdiff_t)(2 * modes + 4) * n * WIDTH;
    room.probes = at, at += pixels * 2 * modes * BLOCK;
    room.waves = at, at += pixels * 2 * modes;
    room.spectra = at, at += pixels * 2 * modes;
    room.filter = at, at += pixels * 2;
    room.lines = at, at += (ptrdiff_t)2 * (MOST_DEGREE + 1) * (ptrdiff_t)n;
    room.row = at;
    return room;
}

#endif
