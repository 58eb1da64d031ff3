/* The proximal step of the prior: minimise  sum w |x - z|^2 + sum s phi(|grad x|)  over a complex image x, by some
 * iterations of the primal-dual algorithm of A. Chambolle and T. Pock, J. Math. Imaging Vis. 40 (2011) 120,
 * 10.1007/s10851-010-0251-1, with steps of each pixel's own (T. Pock and A. Chambolle, ICCV 2011, 1762).
 *
 * phi is the modulus, or, below `smooth`, the parabola that continues it (Huber). Complex arrays are interleaved. */
#ifndef PTYCHO_PROXIMAL_H
#define PTYCHO_PROXIMAL_H

#include "threads.h"
#include "vector.h"

#include <math.h>
#include <stddef.h>
#include <string.h>

/* Mirrored by `Proximal` in structs.py. */
typedef struct {
    int32_t rows, columns, iterations, n_threads;
    float smooth;
    const float *weight;   /* (rows, columns): w, above 0 */
    const float *strength; /* (rows, columns): s, above 0 */
    const float *target;   /* (rows, columns) complex: z */
    float *image;          /* (rows, columns) complex: x, in and out */
    float *dual;           /* (2, rows, columns) complex, in and out: along y and along x */
    float *ahead;          /* (rows, columns) complex: room; where x would be after another such step */
} Proximal;

typedef struct {
    const Proximal *problem;
    Crew *team;
} Turn;

INLINE vec smaller_of(vec a, vec b) { return -larger_of(-a, -b); }

INLINE float smaller(float a, float b) { return a < b ? a : b; }

/* The dual variable of a row: up the gradient of what lies ahead, and back to a modulus of `strength` at most. */
static void climb(const Proximal *p, int row) {
    const int columns = p->columns, inside = row + 1 < p->rows;
    const ptrdiff_t line = (ptrdiff_t)row * columns, next = inside ? line + columns : line;
    const float *here = p->ahead + 2 * line, *below = p->ahead + 2 * next;
    const float *weight = p->weight + line, *weight_below = p->weight + next, *strength = p->strength + line;
    float *down = p->dual + 2 * line, *right = down + 2 * (ptrdiff_t)p->rows * columns;
    const float smooth = p->smooth;
    int c = 0;
    for (; c + WIDTH < columns; c += WIDTH) {
        const vec most = load(strength + c);
        const vec step = 0.25f * smaller_of(load(weight + c), smaller_of(load(weight_below + c), load(weight + c + 1)));
        const vec shrink = 1.0f / (1.0f + step * smooth / most);
        vec hr, hi, br, bi, nr, ni, ar, ai, dr, di;
        load_complex(here + 2 * c, &hr, &hi), load_complex(below + 2 * c, &br, &bi);
        load_complex(here + 2 * c + 2, &nr, &ni);
        load_complex(down + 2 * c, &ar, &ai), load_complex(right + 2 * c, &dr, &di);
        ar = shrink * (ar + step * (br - hr)), ai = shrink * (ai + step * (bi - hi));
        dr = shrink * (dr + step * (nr - hr)), di = shrink * (di + step * (ni - hi));
        const vec factor = most * reciprocal_root(larger_of(ar * ar + ai * ai + dr * dr + di * di, most * most));
        store_complex(down + 2 * c, factor * ar, factor * ai), store_complex(right + 2 * c, factor * dr, factor * di);
    }
    for (; c < columns; c++) {
        const int beside = c + 1 < columns ? c + 1 : c;
        const float step = 0.25f * smaller(weight[c], smaller(weight_below[c], weight[beside]));
        const float shrink = 1.0f / (1.0f + step * smooth / strength[c]);
        float square = 0, moved[4];
        for (int part = 0; part < 2; part++) {
            const float at = here[2 * c + part];
            moved[part] = shrink * (down[2 * c + part] + step * (below[2 * c + part] - at));
            moved[2 + part] = shrink * (right[2 * c + part] + step * (here[2 * beside + part] - at));
            square += moved[part] * moved[part] + moved[2 + part] * moved[2 + part];
        }
        const float factor = square > strength[c] * strength[c] ? strength[c] / sqrtf(square) : 1.0f;
        for (int part = 0; part < 2; part++) {
            down[2 * c + part] = factor * moved[part];
            right[2 * c + part] = factor * moved[2 + part];
        }
    }
}

/* The image in a row: half-way from where the dual variable leads to the target. The dual variable is 0 along y in the
 * last row and along x in the last column, as the gradient is. */
static void descend(const Proximal *p, int row) {
    const int columns = p->columns;
    const ptrdiff_t line = (ptrdiff_t)row * columns;
    const float *weight = p->weight + line, *target = p->target + 2 * line;
    const float *down = p->dual + 2 * line, *right = down + 2 * (ptrdiff_t)p->rows * columns;
    const float *above = row ? down - 2 * columns : down, has_above = row ? 1.0f : 0.0f;
    float *image = p->image + 2 * line, *ahead = p->ahead + 2 * line;
    for (int f = 0; f < 2; f++) {
        const float sources = down[f] - has_above * above[f] + right[f], old = image[f];
        image[f] = 0.5f * (old + 0.5f / weight[0] * sources + target[f]);
        ahead[f] = 2.0f * image[f] - old;
    }
    int c = 1;
    for (; c + WIDTH <= columns; c += WIDTH) {
        const vec step = 0.5f / load(weight + c);
        const vec low = SHUFFLE(step, step, LOW), high = SHUFFLE(step, step, HIGH); /* each twice: re and im */
        for (int half = 0; half < 2; half++) {
            const ptrdiff_t f = 2 * (ptrdiff_t)c + half * WIDTH;
            const vec sources = load(down + f) - has_above * load(above + f) + load(right + f) - load(right + f - 2);
            const vec old = load(image + f);
            const vec now = 0.5f * (old + (half ? high : low) * sources + load(target + f));
            store(image + f, now), store(ahead + f, 2.0f * now - old);
        }
    }
    for (ptrdiff_t f = 2 * (ptrdiff_t)c; f < 2 * (ptrdiff_t)columns; f++) {
        const float sources = down[f] - has_above * above[f] + right[f] - right[f - 2], old = image[f];
        image[f] = 0.5f * (old + 0.5f / weight[f / 2] * sources + target[f]);
        ahead[f] = 2.0f * image[f] - old;
    }
}

static void take_turns(void *argument, int32_t thread) {
    Turn *turn = argument;
    const Proximal *p = turn->problem;
    int64_t first, stop;
    share_of(p->rows, thread, p->n_threads, &first, &stop);
    for (int iteration = 0; iteration < p->iterations; iteration++) {
        for (int64_t row = first; row < stop; row++) climb(p, (int)row);
        wait_for_all(turn->team);
        for (int64_t row = first; row < stop; row++) descend(p, (int)row);
        wait_for_all(turn->team);
    }
}

void ptycho_proximal(const Proximal *problem) {
    Proximal p = *problem;
    Turn turn;
    copy(p.ahead, p.image, (ptrdiff_t)2 * p.rows * p.columns);
    for (;;) {
        memset(&turn, 0, sizeof turn);
        turn.problem = &p;
        if (run_team(take_turns, &turn, p.n_threads, &turn.team)) return;
        p.n_threads = 1;
    }
}

#endif
