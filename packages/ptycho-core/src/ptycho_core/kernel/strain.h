/* How the misfit of some frames changes with a strain of positions and object together and with quadratic phases of the
 * probe's spectrum: the normal equations of one Gauss-Newton step, as `ptycho_core.solver.strain` says. */
#ifndef PTYCHO_STRAIN_H
#define PTYCHO_STRAIN_H

#include "probes.h"
#include "threads.h"
#include "varied.h"

enum { PHASES = 3, STRAINS = 4, UNKNOWNS = STRAINS + PHASES, ROWS = UNKNOWNS + 1 };

/* Mirrored by `Strain` in structs.py. */
typedef struct {
    int32_t n_frames, n_threads;
    float count;            /* added to the expected counts where they divide */
    const int64_t *frames;  /* (frames,): their numbers */
    const int32_t *corners; /* (frames, 2) */
    const float *weights;   /* (frames, (1 + L) K) */
    const float *phases;    /* (PHASES, n, n) of the spectrum */
    float *scratch;         /* (threads, ptycho_strain_floats) */
    int64_t scratch_floats;
    double *normal;         /* (threads, ROWS, ROWS), the lower half alone: the last row is that of the misfit */
} Strain;

typedef struct {
    const Problem *problem;
    const Strain *strain;
    Crew *team;
} Fit;

typedef struct {
    Columns columns;
    float *probes; /* (1 + PHASES, 2) planes: a frame's probe, and what each phase changes it by */
    float *rows;   /* (ROWS) planes: derivatives of the counts, and at the end the counts expected */
    float *spectrum, *filter, *in, *work, *wave, *change; /* 2 planes each */
    float *lines;  /* (MOST_DEGREE + 1, 2) rows of a plane */
} Desk;

int64_t ptycho_strain_floats(int32_t size) {
    return ptycho_plane_floats(size) * ((1 + PHASES) * 2 + ROWS + 12) +
           (int64_t)(4 * WIDTH + 2 * (MOST_DEGREE + 1)) * stride_of(size) + 16 * WIDTH;
}

static Desk desk_of(const Problem *p, const Strain *s, int32_t thread) {
    const int stride = stride_of(p->plan.size);
    const ptrdiff_t pixels = plane_of(p);
    float *at = s->scratch + (ptrdiff_t)thread * (ptrdiff_t)s->scratch_floats;
    at = (float *)(((uintptr_t)at + 63) & ~(uintptr_t)63);
    Desk desk;
    vec *columns = (vec *)at;
    desk.columns = (Columns){columns, columns + stride, columns + 2 * stride, columns + 3 * stride};
    at += (ptrdiff_t)4 * (ptrdiff_t)stride * WIDTH;
    desk.probes = at, at += pixels * (1 + PHASES) * 2;
    desk.rows = at, at += pixels * ROWS;
    desk.spectrum = at, at += 2 * pixels;
    desk.filter = at, at += 2 * pixels;
    desk.in = at, at += 2 * pixels;
    desk.work = at, at += 2 * pixels;
    desk.wave = at, at += 2 * pixels;
    desk.change = at, at += 2 * pixels;
    desk.lines = at;
    return desk;
}

/* The probe of a frame's mode, and what each phase of its spectrum changes it by: i times the phase. */
static void make_strain_probes(const Problem *p, const Strain *s, Desk *desk, const Filter *filter, int mode) {
    const int n = p->plan.size, stride = stride_of(n);
    const ptrdiff_t pixels = plane_of(p), image = (ptrdiff_t)n * (ptrdiff_t)n;
    const float scale = 1.0f / (float)n;
    float *re = desk->spectrum, *im = desk->spectrum + pixels;
    for (int row = 0; row < n; row++)
        for (int c = 0; c < n; c += WIDTH) {
            const ptrdiff_t q = (ptrdiff_t)row * (ptrdiff_t)stride + (ptrdiff_t)c;
            const ptrdiff_t at = 2 * ((ptrdiff_t)row * (ptrdiff_t)n + (ptrdiff_t)c);
            const vec fr = load(filter->planes + q), fi = load(filter->planes + pixels + q);
            vec a = {0}, b = {0};
            for (int l = 0; l <= p->n_variations; l++) {
                vec sr, si;
                load_complex_lanes(spectrum_of(p, mode, l) + at, n - c, &sr, &si);
                a += filter->mix[l] * sr, b += filter->mix[l] * si;
            }
            store(re + q, scale * (a * fr - b * fi)), store(im + q, scale * (a * fi + b * fr));
        }
    transform_plane(&p->plan, &desk->columns, im, re, desk->work, desk->probes + pixels, desk->probes);
    for (int kind = 1; kind <= PHASES; kind++) {
        const float *phase = s->phases + (ptrdiff_t)(kind - 1) * image;
        float *to = desk->probes + (ptrdiff_t)(2 * kind) * pixels;
        for (int row = 0; row < n; row++)
            for (int c = 0; c < n; c += WIDTH) {
                const ptrdiff_t q = (ptrdiff_t)row * (ptrdiff_t)stride + (ptrdiff_t)c;
                const vec turn = load_lanes(phase + (ptrdiff_t)row * (ptrdiff_t)n + c, n - c);
                store(desk->in + q, -turn * load(im + q)), store(desk->in + pixels + q, turn * load(re + q));
            }
        transform_plane(&p->plan, &desk->columns, desk->in + pixels, desk->in, desk->work, to + pixels, to);
    }
}

/* Slope of the object along `step` floats, to the fourth order; the canvas reaches two pixels beyond a window. */
INLINE void object_slope(const float *at, ptrdiff_t step, int lanes, vec *re, vec *im) {
    vec ar, ai, br, bi, cr, ci, dr, di;
    load_complex_lanes(at + step, lanes, &ar, &ai), load_complex_lanes(at - step, lanes, &br, &bi);
    load_complex_lanes(at + 2 * step, lanes, &cr, &ci), load_complex_lanes(at - 2 * step, lanes, &dr, &di);
    *re = (8.0f * (ar - br) - (cr - dr)) * (1.0f / 12);
    *im = (8.0f * (ai - bi) - (ci - di)) * (1.0f / 12);
}

/* The wave on the detector of a probe times the object (what -1), or times its slope along y or x (0, 1) and the negative
 * place in the frame along y or x (`along`). */
static void wave_of(const Problem *p, Desk *desk, const float *probe, const float *patch, int slope, int along, float *to) {
    const int n = p->plan.size, stride = stride_of(n);
    const ptrdiff_t pixels = plane_of(p), width = 2 * (ptrdiff_t)p->canvas_width;
    const ptrdiff_t step = slope ? 2 : (ptrdiff_t)width;
    for (int row = 0; row < n; row++)
        for (int c = 0; c < n; c += WIDTH) {
            const ptrdiff_t q = (ptrdiff_t)row * (ptrdiff_t)stride + (ptrdiff_t)c;
            const float *at = patch + (ptrdiff_t)row * width + 2 * c;
            vec or, oi;
            if (slope < 0) {
                load_complex_lanes(at, n - c, &or, &oi);
            } else {
                vec place = all((float)(n / 2 - row));
                if (along)
                    for (int lane = 0; lane < WIDTH; lane++) place[lane] = (float)(n / 2 - c - lane);
                object_slope(at, step, n - c, &or, &oi);
                or *= place, oi *= place;
            }
            const vec pr = load(probe + q), pi = load(probe + pixels + q);
            store(desk->in + q, pr * or - pi * oi), store(desk->in + pixels + q, pr * oi + pi * or);
        }
    transform_plane(&p->plan, &desk->columns, desk->in, desk->in + pixels, desk->work, to, to + pixels);
}

/* Add what a change of the wave changes the counts by, halved. */
static void add_derivative(const Problem *p, const Desk *desk, float *row) {
    const ptrdiff_t pixels = plane_of(p);
    const float power = 1.0f / ((float)p->plan.size * (float)p->plan.size);
    for (ptrdiff_t q = 0; q < pixels; q += WIDTH)
        store(row + q, load(row + q) + power * (load(desk->wave + q) * load(desk->change + q) +
                                                load(desk->wave + pixels + q) * load(desk->change + pixels + q)));
}

static void differentiate(const Problem *p, const Strain *s, Desk *desk, int64_t frame) {
    const ptrdiff_t pixels = plane_of(p), plane = 2 * pixels;
    const int32_t *corner = s->corners + 2 * frame;
    const float *patch = p->object + 2 * ((ptrdiff_t)corner[0] * (ptrdiff_t)p->canvas_width + (ptrdiff_t)corner[1]);
    const float *probe = desk->probes;
    float *rows = desk->rows;
    wave_of(p, desk, probe, patch, -1, 0, desk->wave);
    copy(desk->change, desk->wave, plane);
    add_derivative(p, desk, rows + UNKNOWNS * pixels);
    for (int k = 0; k < STRAINS; k++) {
        wave_of(p, desk, probe, patch, k / 2, k % 2, desk->change);
        add_derivative(p, desk, rows + (ptrdiff_t)k * pixels);
    }
    for (int k = 0; k < PHASES; k++) {
        wave_of(p, desk, probe + (ptrdiff_t)(k + 1) * plane, patch, -1, 0, desk->change);
        add_derivative(p, desk, rows + (ptrdiff_t)(STRAINS + k) * pixels);
    }
}

static void add_normal(const Problem *p, const Strain *s, const Desk *desk, int64_t frame, double *normal) {
    const float *rows = desk->rows;
    const int n = p->plan.size, stride = stride_of(n);
    const ptrdiff_t pixels = plane_of(p);
    const int64_t number = s->frames[frame];
    const float *good = p->good_kind == 0 ? NULL : p->good + (p->good_kind == 2 ? number * n * n : 0);
    vec sums[ROWS][ROWS];
    memset(sums, 0, sizeof sums);
    for (int row = 0; row < n; row++)
        for (int c = 0; c < n; c += WIDTH) {
            const ptrdiff_t q = (ptrdiff_t)row * (ptrdiff_t)stride + (ptrdiff_t)c;
            const vec expected = load(rows + UNKNOWNS * pixels + q) + p->offset;
            const vec measured = measured_lanes(p, number, row, c);
            vec weight = first_lanes(1.0f / (expected + s->count), n - c), x[ROWS];
            if (good) {
                const vec seen = load_lanes(good + (ptrdiff_t)row * (ptrdiff_t)n + c, n - c);
                weight *= seen * seen;
            }
            for (int k = 0; k < UNKNOWNS; k++) x[k] = load(rows + (ptrdiff_t)k * pixels + q);
            x[UNKNOWNS] = 0.5f * (measured * measured - expected);
            for (int k = 0; k < ROWS; k++) {
                const vec a = weight * x[k];
                for (int j = 0; j <= k; j++) sums[k][j] += a * x[j];
            }
        }
    for (int k = 0; k < ROWS; k++)
        for (int j = 0; j <= k; j++) normal[k * ROWS + j] += (double)sum_of(sums[k][j]);
}

static void fit(void *argument, int32_t thread) {
    Fit *task = argument;
    const Problem *p = task->problem;
    const Strain *s = task->strain;
    Desk desk = desk_of(p, s, thread);
    double *normal = s->normal + (ptrdiff_t)thread * ROWS * ROWS;
    int64_t first, last;
    share_of(s->n_frames, thread, s->n_threads, &first, &last);
    for (int64_t frame = first; frame < last; frame++) {
        const Filter filter = filter_of(p, desk.lines, desk.filter, s->weights + frame * basis_of(p));
        clear(desk.rows, ROWS * plane_of(p));
        for (int m = 0; m < p->n_modes; m++) {
            make_strain_probes(p, s, &desk, &filter, m);
            differentiate(p, s, &desk, frame);
        }
        add_normal(p, s, &desk, frame, normal);
    }
}

/* Fill in `normal`, which holds zeros; each thread adds to its own. */
void ptycho_strain(const Problem *problem, const Strain *strain) {
    Strain s = *strain;
    Fit task;
    for (;;) {
        memset(&task, 0, sizeof task);
        task.problem = problem, task.strain = &s;
        if (run_team(fit, &task, s.n_threads, &task.team)) return;
        s.n_threads = 1;
    }
}

#endif
