/* How the misfit of some frames changes with a strain of positions and object together and with quadratic phases of the
 * probe's spectrum: the normal equations of one Gauss-Newton step, as `ptycho_core.solver.strain` says. */
#ifndef PTYCHO_STRAIN_H
#define PTYCHO_STRAIN_H

#include "probes.h"
#include "threads.h"

enum { PHASES = 3, STRAINS = 4, UNKNOWNS = STRAINS + PHASES, ROWS = UNKNOWNS + 1 };

/* Mirrored by `Strain` in structs.py. */
typedef struct {
    int32_t n_frames, n_threads;
    float count;            /* added to the expected counts where they divide */
    const int64_t *frames;  /* (frames,): their numbers */
    const int32_t *corners; /* (frames, 2) */
    const float *weights;   /* (frames, (1 + L) K) */
    const float *phases;    /* (PHASES, n, n) of the spectrum */
    float *basis;           /* (1 + PHASES, P, (1 + L) K, 2) planes: the probe, and what each phase changes it by */
    float *scratch;         /* (threads, ptycho_strain_floats) */
    int64_t scratch_floats;
    double *normal;         /* (threads, ROWS, ROWS), the lower half alone: the last row is that of the misfit */
} Strain;

typedef struct {
    const Problem *problem;
    const Strain *strain;
    Crew *team;
    atomic_int next;
} Fit;

typedef struct {
    Columns columns;
    float *probes;   /* (1 + PHASES, BLOCK, 2) planes */
    float *rows;     /* (BLOCK, ROWS) planes: derivatives of the counts, and at the end the counts expected */
    float *in, *work, *wave, *change; /* 2 planes each; `change` holds a spectrum (n, n) complex as well */
} Desk;

int64_t ptycho_strain_floats(int32_t size) {
    return ptycho_plane_floats(size) * ((1 + PHASES) * BLOCK * 2 + BLOCK * ROWS + 8) +
           (int64_t)4 * stride_of(size) * WIDTH + 16 * WIDTH;
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
    desk.probes = at, at += pixels * (1 + PHASES) * BLOCK * 2;
    desk.rows = at, at += pixels * BLOCK * ROWS;
    desk.in = at, at += 2 * pixels;
    desk.work = at, at += 2 * pixels;
    desk.wave = at, at += 2 * pixels;
    desk.change = at;
    return desk;
}

/* A spectrum times i and a phase. */
static void turn_spectrum(const float *spectrum, const float *phase, ptrdiff_t count, float *to) {
    for (ptrdiff_t q = 0; q < count; q++) to[2 * q] = -phase[q] * spectrum[2 * q + 1], to[2 * q + 1] = phase[q] * spectrum[2 * q];
}

static void make_strain_basis(const Problem *p, const Strain *s, Desk *desk, int index) {
    const int n_basis = basis_of(p), functions = p->n_modes * n_basis;
    const int kind = index / functions, mode = index % functions / n_basis, part = index % n_basis / p->n_filters;
    const ptrdiff_t image = (ptrdiff_t)p->plan.size * (ptrdiff_t)p->plan.size, pixels = plane_of(p);
    const float *spectrum = spectrum_of(p, mode, part);
    if (kind) {
        turn_spectrum(spectrum, s->phases + (ptrdiff_t)(kind - 1) * image, image, desk->change);
        spectrum = desk->change;
    }
    const float *filter = p->filters + 2 * (ptrdiff_t)(index % p->n_filters) * image;
    filtered_probe(p, &desk->columns, desk->in, desk->work, spectrum, filter, s->basis + 2 * (ptrdiff_t)index * pixels);
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

static void differentiate(const Problem *p, const Strain *s, Desk *desk, int slot, int64_t frame, float *rows) {
    const ptrdiff_t pixels = plane_of(p), plane = 2 * pixels;
    const int32_t *corner = s->corners + 2 * frame;
    const float *patch = p->object + 2 * ((ptrdiff_t)corner[0] * (ptrdiff_t)p->canvas_width + (ptrdiff_t)corner[1]);
    const float *probe = desk->probes + (ptrdiff_t)slot * plane;
    wave_of(p, desk, probe, patch, -1, 0, desk->wave);
    copy(desk->change, desk->wave, plane);
    add_derivative(p, desk, rows + UNKNOWNS * pixels);
    for (int k = 0; k < STRAINS; k++) {
        wave_of(p, desk, probe, patch, k / 2, k % 2, desk->change);
        add_derivative(p, desk, rows + (ptrdiff_t)k * pixels);
    }
    for (int k = 0; k < PHASES; k++) {
        wave_of(p, desk, probe + (ptrdiff_t)(k + 1) * BLOCK * plane, patch, -1, 0, desk->change);
        add_derivative(p, desk, rows + (ptrdiff_t)(STRAINS + k) * pixels);
    }
}

static void add_normal(const Problem *p, const Strain *s, int64_t frame, const float *rows, double *normal) {
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
    const int n_basis = basis_of(p), functions = p->n_modes * n_basis;
    const ptrdiff_t pixels = plane_of(p), plane = 2 * pixels;
    Desk desk = desk_of(p, s, thread);
    for (int index; (index = atomic_fetch_add(&task->next, 1)) < (1 + PHASES) * functions;)
        make_strain_basis(p, s, &desk, index);
    wait_for_all(task->team);
    double *normal = s->normal + (ptrdiff_t)thread * ROWS * ROWS;
    int64_t first, last;
    share_of(s->n_frames, thread, s->n_threads, &first, &last);
    for (int64_t block = first; block < last; block += BLOCK) {
        const int count = last - block < BLOCK ? (int)(last - block) : BLOCK;
        const float *weights[BLOCK];
        for (int f = 0; f < BLOCK; f++) weights[f] = s->weights + (block + (f < count ? f : count - 1)) * n_basis;
        clear(desk.rows, BLOCK * ROWS * pixels);
        for (int m = 0; m < p->n_modes; m++) {
            for (int kind = 0; kind <= PHASES; kind++)
                combine(s->basis + (ptrdiff_t)(kind * functions + m * n_basis) * plane, n_basis, plane, weights, count,
                        desk.probes + (ptrdiff_t)kind * BLOCK * plane);
            for (int f = 0; f < count; f++) 
                differentiate(p, s, &desk, f, block + f, desk.rows + (ptrdiff_t)f * ROWS * pixels);
        }
        for (int f = 0; f < count; f++) add_normal(p, s, block + f, desk.rows + (ptrdiff_t)f * ROWS * pixels, normal);
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
