/* One step of the solver on one batch of frames: the arithmetic of `ptycho_core.solver.level.Level.step`, fused so
 * that a frame stays in the processor's cache from its exit wave to its gradients.
 *
 * Complex arrays that Python shares are interleaved (complex64); what lies between them is held in planes, the real
 * parts of n x n pixels and then the imaginary parts, as fft.h says. All memory comes from Python. */
#define _GNU_SOURCE /* threads choose their cores */
#include "places.h"
#include "probes.h"
#include "proximal.h"
#include "strain.h"
#include "threads.h"
#include "varied.h"

/* Where the fields of the structs that structs.py mirrors lie. Python compares all of it with its mirrors before it passes
 * any of them; the entry without a name is the last. A struct's own entry has its name alone. */
typedef struct {
    const char *name;
    int32_t offset, size;
} Field;

#define WHOLE(S) {#S, 0, (int32_t)sizeof(S)}
#define FIELD(S, F) {#S "." #F, (int32_t)offsetof(S, F), (int32_t)sizeof(((S *)0)->F)}

static const Field LAYOUT[] = {
    WHOLE(Plan), FIELD(Plan, size), FIELD(Plan, n_passes), FIELD(Plan, radices), FIELD(Plan, cosines),
    FIELD(Plan, sines),
    WHOLE(Problem), FIELD(Problem, plan), FIELD(Problem, n_modes), FIELD(Problem, n_filters),
    FIELD(Problem, n_variations), FIELD(Problem, n_threads), FIELD(Problem, good_kind), FIELD(Problem, offset),
    FIELD(Problem, misfit), FIELD(Problem, softening), FIELD(Problem, filters), FIELD(Problem, degree),
    FIELD(Problem, lines), FIELD(Problem, amplitude), FIELD(Problem, code_step), FIELD(Problem, code_added),
    FIELD(Problem, frame_stride), FIELD(Problem, row_stride), FIELD(Problem, good), FIELD(Problem, spectrum),
    FIELD(Problem, spectrum_velocity), FIELD(Problem, variations), FIELD(Problem, object), FIELD(Problem, object_velocity),
    FIELD(Problem, canvas_width), FIELD(Problem, basis),
    FIELD(Problem, basis_gradient), FIELD(Problem, light), FIELD(Problem, coverage), FIELD(Problem, object_gradient),
    FIELD(Problem, scratch), FIELD(Problem, scratch_floats), FIELD(Problem, frame_misfit),
    WHOLE(Batch), FIELD(Batch, first_frame), FIELD(Batch, n_frames), FIELD(Batch, corners), FIELD(Batch, weights),
    FIELD(Batch, row_start), FIELD(Batch, row_stop), FIELD(Batch, column_start), FIELD(Batch, column_stop),
    FIELD(Batch, object_step), FIELD(Batch, probe_step), FIELD(Batch, object_momentum), FIELD(Batch, probe_momentum),
    FIELD(Batch, object_floor), FIELD(Batch, gradient_only), FIELD(Batch, overlaps), FIELD(Batch, curvature),
    WHOLE(Proximal), FIELD(Proximal, rows), FIELD(Proximal, columns), FIELD(Proximal, iterations),
    FIELD(Proximal, n_threads), FIELD(Proximal, smooth), FIELD(Proximal, weight), FIELD(Proximal, strength),
    FIELD(Proximal, target), FIELD(Proximal, image), FIELD(Proximal, dual), FIELD(Proximal, ahead),
    WHOLE(Strain), FIELD(Strain, n_frames), FIELD(Strain, n_threads), FIELD(Strain, count), FIELD(Strain, frames),
    FIELD(Strain, corners), FIELD(Strain, weights), FIELD(Strain, phases),
    FIELD(Strain, scratch), FIELD(Strain, scratch_floats), FIELD(Strain, normal),
    WHOLE(Places), FIELD(Places, plan), FIELD(Places, frame_px), FIELD(Places, n_modes), FIELD(Places, n_frames),
    FIELD(Places, n_places), FIELD(Places, probes), FIELD(Places, object), FIELD(Places, canvas_width),
    FIELD(Places, corners), FIELD(Places, amplitude), FIELD(Places, good), FIELD(Places, good_stride),
    FIELD(Places, scratch), FIELD(Places, misfits),
    {NULL, 0, 0},
};

const Field *ptycho_layout(void) { return LAYOUT; }

typedef struct {
    const Problem *problem;
    const Batch *batch;
    Crew *team;
    atomic_int next_filter, next_gradient;
    double misfit[MOST_THREADS];
    float peak[MOST_THREADS];
} Task;

/* A transform takes one mode's columns and the spare room, and leaves the spare room to the next one. */
INLINE void lend_spare(Room *room, int from, int to) {
    room->columns[to].spare_re = room->columns[from].spare_re;
    room->columns[to].spare_im = room->columns[from].spare_im;
}

/* What a vector of pixels is off by, and the factor on their waves that leads towards what was measured. */
INLINE vec compare_amplitudes(vec intensity, vec measured, vec *factor) {
    const vec root = reciprocal_root(intensity);
    *factor = measured * root - 1.0f;
    return magnitude(measured - intensity * root);
}

/* Deviance l - t + t log(t / l) of t measured and l expected counts. */
INLINE vec compare_counts(vec expected, vec amplitude, float softening, vec *factor) {
    const vec counts = amplitude * amplitude + softening, ratio = counts / expected;
    *factor = ratio - 1.0f;
    return expected - counts + counts * natural_log(ratio);
}

INLINE vec compare_roots(vec expected, vec amplitude, float softening, vec *factor) {
    const vec counts = amplitude * amplitude + softening, root = counts * reciprocal_root(counts);
    const vec ratio = root * reciprocal_root(expected), apart = root - expected * reciprocal_root(expected);
    *factor = 2.0f * (ratio - 1.0f);
    return 2.0f * apart * apart;
}

/* Predict a frame, compare it with what was measured, pull the misfit back to object and probes. */
static double explain(const Problem *p, Room *room, const float *patch, int slot, int64_t frame, float *pulled) {
    const int n = p->plan.size, stride = stride_of(n), modes = p->n_modes;
    const ptrdiff_t pixels = plane_of(p), plane = 2 * pixels, width = 2 * p->canvas_width;
    const float *good = p->good_kind == 0 ? NULL : p->good + (p->good_kind == 2 ? frame * n * n : 0);
    const float power = 1.0f / ((float)n * (float)n);
    double misfit = 0;

    for (int m = 0; m < modes; m++) { /* exit wave, transformed along y */
        const float *probe = room->probes + ((ptrdiff_t)m * BLOCK + slot) * plane;
        float *wave = room->waves + m * plane;
        Columns *at = &room->columns[m];
        if (m) lend_spare(room, m - 1, m);
        for (int c = 0; c < n; c += WIDTH) {
            for (int row = 0; row < n; row++) {
                const ptrdiff_t q = (ptrdiff_t)row * stride + c;
                const vec pr = load(probe + q), pi = load(probe + pixels + q);
                vec or, oi;
                load_complex_lanes(patch + row * width + 2 * c, n - c, &or, &oi);
                at->re[row] = pr * or - pi * oi;
                at->im[row] = pr * oi + pi * or;
            }
            fft_columns(&p->plan, at);
            store_rows(at->re, wave, n, c), store_rows(at->im, wave + pixels, n, c);
        }
    }
    for (int c = 0; c < n; c += WIDTH) { /* along x, correct the modulus, and back along x */
        for (int m = 0; m < modes; m++) {
            const float *wave = room->waves + m * plane;
            Columns *at = &room->columns[m];
            lend_spare(room, m ? m - 1 : modes - 1, m);
            load_columns(at->re, wave, n, c), load_columns(at->im, wave + pixels, n, c);
            fft_columns(&p->plan, at);
        }
        vec strip = {0};
        load_measured(p, frame, room->measured, c);
        if (good) load_rows(room->weight, good, n, n, c);
        for (int row = 0; row < n; row++) {
            vec intensity = {0};
            for (int m = 0; m < modes; m++) {
                const vec a = room->columns[m].re[row], b = room->columns[m].im[row];
                intensity += a * a + b * b;
            }
            intensity = intensity * power + p->offset;
            vec factor, difference;
            if (p->misfit == POISSON)
                difference = compare_counts(intensity, room->measured[row], p->softening, &factor);
            else if (p->misfit == ROOTS)
                difference = compare_roots(intensity, room->measured[row], p->softening, &factor);
            else
                difference = compare_amplitudes(intensity, room->measured[row], &factor);
            if (good) {
                difference *= room->weight[row], factor *= room->weight[row];
            }
            strip += difference;
            factor *= power;
            for (int m = 0; m < modes; m++) room->columns[m].re[row] *= factor, room->columns[m].im[row] *= factor;
        }
        misfit += sum_of(first_lanes(strip, n - c));
        for (int m = 0; m < modes; m++) {
            Columns *at = &room->columns[m];
            lend_spare(room, m ? m - 1 : modes - 1, m);
            inverse_columns(&p->plan, at);
            store_rows(at->re, room->spectra + m * plane, n, c);
            store_rows(at->im, room->spectra + m * plane + pixels, n, c);
        }
    }
    for (int m = 0; m < modes; m++) { /* back along y, and the products with probe and object */
        float *probe = room->probes + ((ptrdiff_t)m * BLOCK + slot) * plane;
        const float *wave = room->spectra + m * plane;
        Columns *at = &room->columns[m];
        lend_spare(room, m ? m - 1 : modes - 1, m);
        for (int c = 0; c < n; c += WIDTH) {
            load_columns(at->re, wave, n, c), load_columns(at->im, wave + pixels, n, c);
            inverse_columns(&p->plan, at);
            for (int row = 0; row < n; row++) {
                const ptrdiff_t q = (ptrdiff_t)row * stride + c;
                const vec xr = at->re[row], xi = at->im[row], pr = load(probe + q), pi = load(probe + pixels + q);
                vec or, oi, ur = pr * xr + pi * xi, ui = pr * xi - pi * xr;
                load_complex_lanes(patch + row * width + 2 * c, n - c, &or, &oi);
                if (m) ur += load(pulled + q), ui += load(pulled + pixels + q);
                store(pulled + q, ur), store(pulled + pixels + q, ui);
                store(probe + q, or * xr + oi * xi), store(probe + pixels + q, or * xi - oi * xr);
            }
        }
    }
    if (modes > 1) lend_spare(room, modes - 1, 0);
    return misfit;
}

static double explain_frames(const Problem *p, const Batch *batch, Room *room, int32_t thread) {
    const int n_basis = basis_of(p);
    const ptrdiff_t plane = 2 * plane_of(p), gradient_floats = (ptrdiff_t)p->n_modes * functions_of(p) * plane;
    float *gradient = p->basis_gradient + thread * gradient_floats;
    int64_t first, last;
    double misfit = 0;
    share_of(batch->n_frames, thread, p->n_threads, &first, &last);
    clear(gradient, gradient_floats);
    const int most = p->lines ? 1 : BLOCK; /* frames with a filter of their own share nothing */
    for (int64_t block = first; block < last; block += most) {
        const int count = last - block < most ? (int)(last - block) : most;
        const float *weights[BLOCK];
        Filter filter = {{0}, NULL};
        for (int f = 0; f < BLOCK; f++)
            weights[f] = batch->weights + (block + (f < count ? f : count - 1)) * n_basis;
        if (p->lines) {
            filter = filter_of(p, room->lines, room->filter, weights[0]);
            for (int m = 0; m < p->n_modes; m++)
                varied_probe(p, room, &filter, m, room->probes + (ptrdiff_t)m * BLOCK * plane);
        }
        for (int m = 0; !p->lines && m < p->n_modes; m++)
            combine(p->basis + (ptrdiff_t)m * n_basis * plane, n_basis, plane, weights, count,
                    room->probes + (ptrdiff_t)m * BLOCK * plane);
        for (int f = 0; f < count; f++) {
            const int32_t *corner = batch->corners + 2 * (block + f);
            const float *patch = p->object + 2 * ((ptrdiff_t)corner[0] * p->canvas_width + corner[1]);
            const int64_t frame = batch->first_frame + block + f;
            const double found = explain(p, room, patch, f, frame, p->object_gradient + (block + f) * plane);
            p->frame_misfit[frame] = (float)found;
            misfit += found;
        }
        if (p->lines) {
            float *to = batch->probe_step != 0 ? gradient : NULL;
            const int n_slopes = 1 + p->n_variations + p->n_filters;
            float *slopes = batch->overlaps ? batch->overlaps + block * n_slopes : NULL;
            if (slopes) clear(slopes, n_slopes);
            for (int m = 0; (to || slopes) && m < p->n_modes; m++)
                varied_back(p, room, &filter, m, room->probes + (ptrdiff_t)m * BLOCK * plane, to, slopes);
            continue;
        }
        if (batch->overlaps)
            for (int m = 0; m < p->n_modes; m++) overlap(p, room, m, count, batch->overlaps + block * n_basis);
        if (batch->probe_step != 0)
            for (int m = 0; m < p->n_modes; m++) project(p, room, m, weights, count, gradient);
    }
    return misfit;
}

/* The rows of the window that are a thread's own. */
INLINE void own_rows(const Problem *p, const Batch *batch, int32_t thread, int *start, int *stop) {
    int64_t first, last;
    share_of(batch->row_stop - batch->row_start, thread, p->n_threads, &first, &last);
    *start = batch->row_start + (int)first, *stop = batch->row_start + (int)last;
}

/* How much light the frames of the batch put on each pixel of some rows; the answer is the most. */
static float cover(const Problem *p, const Batch *batch, int32_t thread) {
    const int n = p->plan.size, stride = stride_of(n);
    int start, stop;
    vec most = {0};
    own_rows(p, batch, thread, &start, &stop);
    for (int row = start; row < stop; row++) {
        float *to = p->coverage + (ptrdiff_t)(row - batch->row_start) * (p->canvas_width + WIDTH);
        clear(to + batch->column_start, batch->column_stop - batch->column_start);
        for (int f = 0; f < batch->n_frames; f++) {
            const int inside = row - batch->corners[2 * f], column = batch->corners[2 * f + 1];
            if (inside < 0 || inside >= n) continue;
            for (int c = 0; c < n; c += WIDTH) {
                const vec sum = load(to + column + c) + load(p->light + (ptrdiff_t)inside * stride + c);
                most = larger_of(sum, most);
                store(to + column + c, sum);
            }
        }
    }
    return largest_of(most);
}

/* Object: velocity = momentum * velocity + step * gradient / (coverage + floor * its peak); object += velocity. */
static void move_object(const Problem *p, const Batch *batch, Room *room, int32_t thread, float peak) {
    const int n = p->plan.size, stride = stride_of(n);
    const ptrdiff_t pixels = plane_of(p);
    const float floor = batch->object_floor * peak, momentum = batch->object_momentum;
    float *re = room->row, *im = room->row + p->canvas_width + WIDTH;
    int start, stop;
    own_rows(p, batch, thread, &start, &stop);
    for (int row = start; row < stop; row++) {
        const ptrdiff_t line = (ptrdiff_t)row * p->canvas_width;
        clear(re + batch->column_start, batch->column_stop - batch->column_start);
        clear(im + batch->column_start, batch->column_stop - batch->column_start);
        for (int f = 0; f < batch->n_frames; f++) {
            const int inside = row - batch->corners[2 * f], column = batch->corners[2 * f + 1];
            if (inside < 0 || inside >= n) continue;
            const float *gradient = p->object_gradient + (ptrdiff_t)f * 2 * pixels + (ptrdiff_t)inside * stride;
            for (int c = 0; c < n; c += WIDTH) {
                store(re + column + c, load(re + column + c) + load(gradient + c));
                store(im + column + c, load(im + column + c) + load(gradient + pixels + c));
            }
        }
        float *object = p->object + 2 * line, *velocity = p->object_velocity + 2 * line;
        if (batch->gradient_only) {
            for (int c = batch->column_start; c < batch->column_stop; c++)
                velocity[2 * c] += re[c], velocity[2 * c + 1] += im[c];
            continue;
        }
        const float *coverage = p->coverage + (ptrdiff_t)(row - batch->row_start) * (p->canvas_width + WIDTH);
        int c = batch->column_start;
        for (; c + WIDTH <= batch->column_stop; c += WIDTH) {
            const vec step = batch->object_step / (load(coverage + c) + floor);
            vec vr, vi, or, oi;
            load_complex(velocity + 2 * c, &vr, &vi), load_complex(object + 2 * c, &or, &oi);
            vr = momentum * vr + step * load(re + c), vi = momentum * vi + step * load(im + c);
            store_complex(velocity + 2 * c, vr, vi), store_complex(object + 2 * c, or + vr, oi + vi);
        }
        for (; c < batch->column_stop; c++) {
            const float step = batch->object_step / (coverage[c] + floor);
            velocity[2 * c] = momentum * velocity[2 * c] + step * re[c];
            velocity[2 * c + 1] = momentum * velocity[2 * c + 1] + step * im[c];
            object[2 * c] += velocity[2 * c], object[2 * c + 1] += velocity[2 * c + 1];
        }
    }
}

/* The part of the probe's gradient that one function carries, in place of the first thread's share. */
static void pull_back(const Problem *p, Room *room, int index) {
    const int n = p->plan.size, stride = stride_of(n);
    const ptrdiff_t pixels = plane_of(p), plane = 2 * pixels, all_floats = (ptrdiff_t)p->n_modes * functions_of(p) * plane;
    float *gradient = p->basis_gradient + index * plane;
    const float *filter = p->filters + 2 * (ptrdiff_t)(index % p->n_filters) * n * n;
    for (int thread = 1; thread < p->n_threads; thread++)
        for (ptrdiff_t q = 0; q < plane; q += WIDTH)
            store(gradient + q, load(gradient + q) + load(gradient + thread * all_floats + q));
    if (p->lines) return;
    transform_plane(&p->plan, &room->columns[0], gradient, gradient + pixels, room->spectra, gradient, gradient + pixels);
    for (int row = 0; row < n; row++) {
        for (int column = 0; column < n; column += WIDTH) {
            const ptrdiff_t q = (ptrdiff_t)row * stride + column;
            const vec a = load(gradient + q), b = load(gradient + pixels + q);
            vec c, d;
            load_complex_lanes(filter + 2 * ((ptrdiff_t)row * n + column), n - column, &c, &d);
            store(gradient + q, a * c + b * d), store(gradient + pixels + q, b * c - a * d);
        }
    }
}

/* A thread's rows of one spectrum: velocity = momentum * velocity + step * gradient; spectrum += velocity. Without a
 * velocity the step alone. `gradient` has a part for each filter, which are added up. */
static void move_spectrum(const Problem *p, const Batch *batch, int32_t thread, const float *gradient, float *spectrum,
                          float *velocity) {
    const int n = p->plan.size, stride = stride_of(n);
    const ptrdiff_t pixels = plane_of(p), plane = 2 * pixels;
    int64_t start, stop;
    const float step = batch->probe_step / ((float)n * (float)batch->n_frames), momentum = batch->probe_momentum;
    share_of(n, thread, p->n_threads, &start, &stop);
    for (int64_t row = start; row < stop; row++) {
        for (int column = 0; column < n; column += WIDTH) {
            const ptrdiff_t q = row * stride + column, at = 2 * (row * n + column);
            const int lanes = n - column;
            vec gr = {0}, gi = {0}, vr = {0}, vi = {0}, sr, si;
            for (int k = 0; k < filters_of(p); k++)
                gr += load(gradient + k * plane + q), gi += load(gradient + k * plane + pixels + q);
            if (velocity) load_complex_lanes(velocity + at, lanes, &vr, &vi);
            if (batch->gradient_only) {
                store_complex_lanes(velocity + at, lanes, vr + gr / (float)n, vi + gi / (float)n);
                continue;
            }
            load_complex_lanes(spectrum + at, lanes, &sr, &si);
            vr = momentum * vr + step * gr, vi = momentum * vi + step * gi;
            if (velocity) store_complex_lanes(velocity + at, lanes, vr, vi);
            store_complex_lanes(spectrum + at, lanes, sr + vr, si + vi);
        }
    }
}

static void move_probe(const Problem *p, const Batch *batch, int32_t thread) {
    const ptrdiff_t plane = 2 * plane_of(p), image = 2 * (ptrdiff_t)p->plan.size * p->plan.size;
    const int parts = batch->gradient_only ? 1 : 1 + p->n_variations;
    for (int m = 0; m < p->n_modes; m++)
        for (int part = 0; part < parts; part++) {
            const float *gradient =
                p->basis_gradient + (ptrdiff_t)(m * functions_of(p) + part * filters_of(p)) * plane;
            float *velocity = part ? NULL : p->spectrum_velocity + m * image;
            move_spectrum(p, batch, thread, gradient, spectrum_of(p, m, part), velocity);
        }
}

/* Curvature of the misfit by a frame's position, in pixels of the canvas: half the light times the slopes of the object.
 * A slope reaches one pixel to either side, and is 0 at the rim of the window. */
static void curve(const Problem *p, const Batch *batch, int64_t frame, float *to) {
    const int n = p->plan.size, stride = stride_of(n);
    const int first_row = batch->corners[2 * frame], first_column = batch->corners[2 * frame + 1];
    const ptrdiff_t width = 2 * p->canvas_width;
    vec yy = {0}, yx = {0}, xx = {0};
    for (int row = 0; row < n; row++) {
        const int there = first_row + row;
        const float down = there > batch->row_start && there + 1 < batch->row_stop ? 0.5f : 0;
        const float *line = p->object + (ptrdiff_t)there * width;
        for (int c = 0; c < n; c += WIDTH) {
            const int column = first_column + c, lanes = n - c;
            const float *at = line + 2 * (ptrdiff_t)column;
            const vec light = load(p->light + (ptrdiff_t)row * stride + c);
            vec ar = {0}, ai = {0}, br = {0}, bi = {0}, dr, di, right = all(0.5f);
            if (down != 0) {
                load_complex_lanes(at + width, lanes, &ar, &ai), load_complex_lanes(at - width, lanes, &br, &bi);
            }
            dr = down * (ar - br), di = down * (ai - bi);
            for (int lane = 0; lane < WIDTH; lane++)
                if (column + lane <= batch->column_start || column + lane + 1 >= batch->column_stop) right[lane] = 0;
            if (column > 0 && column + (lanes < WIDTH ? lanes : WIDTH) < p->canvas_width) {
                load_complex_lanes(at + 2, lanes, &ar, &ai), load_complex_lanes(at - 2, lanes, &br, &bi);
            } else {
                for (int lane = 0; lane < WIDTH; lane++) {
                    ar[lane] = ai[lane] = br[lane] = bi[lane] = 0;
                    if (lane >= lanes || right[lane] == 0) continue;
                    ar[lane] = at[2 * lane + 2], ai[lane] = at[2 * lane + 3];
                    br[lane] = at[2 * lane - 2], bi[lane] = at[2 * lane - 1];
                }
            }
            const vec er = right * (ar - br), ei = right * (ai - bi);
            yy += light * (dr * dr + di * di), yx += light * (dr * er + di * ei), xx += light * (er * er + ei * ei);
        }
    }
    to[0] = 0.5f * sum_of(yy), to[1] = 0.5f * sum_of(yx), to[2] = 0.5f * sum_of(xx);
}

static void curve_frames(const Problem *p, const Batch *batch, int32_t thread) {
    int64_t first, last;
    share_of(batch->n_frames, thread, p->n_threads, &first, &last);
    for (int64_t frame = first; frame < last; frame++) curve(p, batch, frame, batch->curvature + 3 * frame);
}

static void work(void *argument, int32_t thread) {
    Task *task = argument;
    const Problem *p = task->problem;
    const Batch *batch = task->batch;
    const int per_mode = functions_of(p), n_functions = p->n_modes * per_mode;
    const ptrdiff_t plane = 2 * plane_of(p), image = 2 * (ptrdiff_t)p->plan.size * p->plan.size;
    Room room = room_of(p, thread);
    for (int index; (index = atomic_fetch_add(&task->next_filter, 1)) <= n_functions;) {
        if (index == n_functions) {
            if (!batch->gradient_only) make_light(p, &room);
        } else {
            const float *spectrum = spectrum_of(p, index / per_mode, index % per_mode / filters_of(p));
            const float *filter = p->filters + (index % p->n_filters) * image;
            if (p->lines)
                split_spectrum(p, spectrum, p->basis + index * plane);
            else
                make_basis(p, &room, spectrum, filter, p->basis + index * plane);
        }
    }
    wait_for_all(task->team);
    task->misfit[thread] = explain_frames(p, batch, &room, thread);
    if (!batch->gradient_only) task->peak[thread] = cover(p, batch, thread);
    wait_for_all(task->team);
    float peak = 0;
    for (int k = 0; k < p->n_threads; k++) peak = task->peak[k] > peak ? task->peak[k] : peak;
    if (batch->object_step != 0) move_object(p, batch, &room, thread, peak);
    if (batch->probe_step != 0) {
        for (int index; (index = atomic_fetch_add(&task->next_gradient, 1)) < n_functions;) pull_back(p, &room, index);
    } else if (!batch->curvature) {
        return;
    }
    wait_for_all(task->team);
    if (batch->probe_step != 0) move_probe(p, batch, thread);
    if (batch->curvature) curve_frames(p, batch, thread);
}

/* Move object and probe, or add up their gradients; the answer is the sum of the misfits before the move. */
double ptycho_step(const Problem *problem, const Batch *batch) {
    Problem p = *problem;
    Task task;
    double misfit = 0;
    for (;;) {
        memset(&task, 0, sizeof task);
        task.problem = &p, task.batch = batch;
        if (run_team(work, &task, p.n_threads, &task.team)) break;
        p.n_threads = 1;
    }
    for (int k = 0; k < p.n_threads; k++) misfit += task.misfit[k];
    return misfit;
}
