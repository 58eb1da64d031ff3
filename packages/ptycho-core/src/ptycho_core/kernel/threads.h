/* A team of threads for the time of one step, and a barrier where they wait for each other.
 *
 * Who waits looks for some microseconds, as on a quiet host the others come within that, and then sleeps: a thread that
 * looked on would keep its core from one that has work, of this process or of another. */
#ifndef PTYCHO_THREADS_H
#define PTYCHO_THREADS_H

#include "vector.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>

enum { MOST_THREADS = 64, LOOKS_BEFORE_SLEEP = 2000 };

typedef struct {
    int32_t count;
    atomic_int arrived, round; /* rounds begin when all have started */
    atomic_int alone;          /* not all could be started: nobody works */
    pthread_mutex_t lock;
    pthread_cond_t begun;
} Team;

INLINE void look_again(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ __volatile__("yield");
#endif
}

static void begin_round(Team *team) {
    pthread_mutex_lock(&team->lock);
    atomic_fetch_add(&team->round, 1);
    pthread_cond_broadcast(&team->begun);
    pthread_mutex_unlock(&team->lock);
}

static void wait_for_round_after(Team *team, int round) {
    for (int looks = 0; looks < LOOKS_BEFORE_SLEEP; looks++) {
        if (atomic_load(&team->round) != round) return;
        look_again();
    }
    pthread_mutex_lock(&team->lock);
    while (atomic_load(&team->round) == round) pthread_cond_wait(&team->begun, &team->lock);
    pthread_mutex_unlock(&team->lock);
}

static void wait_for_all(Team *team) {
    const int round = atomic_load(&team->round);
    if (atomic_fetch_add(&team->arrived, 1) == team->count - 1) {
        atomic_store(&team->arrived, 0);
        if (team->count > 1) begin_round(team);
    } else {
        wait_for_round_after(team, round);
    }
}

/* A thread's share of some things that follow each other. */
INLINE void share_of(int64_t count, int32_t thread, int32_t n_threads, int64_t *first, int64_t *last) {
    *first = count * thread / n_threads;
    *last = count * (thread + 1) / n_threads;
}

typedef struct {
    void (*work)(void *task, int32_t thread);
    void *task;
    Team *team;
    int32_t thread;
} Member;

static void *member_main(void *argument) {
    Member *member = argument;
    wait_for_round_after(member->team, 0);
    if (!atomic_load(&member->team->alone)) member->work(member->task, member->thread);
    return NULL;
}

static int start_all(void (*work)(void *, int32_t), void *task, int32_t count, Team *team) {
    pthread_t threads[MOST_THREADS];
    Member members[MOST_THREADS];
    int32_t started = 1;
    for (; started < count; started++) {
        members[started] = (Member){work, task, team, started};
        if (pthread_create(&threads[started], NULL, member_main, &members[started])) break;
    }
    const int complete = started == count;
    atomic_store(&team->alone, !complete);
    begin_round(team);
    if (complete) work(task, 0);
    for (int32_t k = 1; k < started; k++) pthread_join(threads[k], NULL);
    return complete;
}

/* Run `work` as threads 0 .. count-1 (0 is the caller's); the answer is 0 where the system did not give so many, or no
 * lock: nothing has run then, and the caller starts again with one thread. */
static int run_team(void (*work)(void *, int32_t), void *task, int32_t count, Team *team) {
    team->count = count;
    atomic_store(&team->arrived, 0), atomic_store(&team->round, 0), atomic_store(&team->alone, 0);
    if (count == 1) { /* no barrier holds one thread up, and nobody sleeps */
        atomic_store(&team->round, 1);
        work(task, 0);
        return 1;
    }
    if (pthread_mutex_init(&team->lock, NULL)) return 0;
    int complete = 0;
    if (!pthread_cond_init(&team->begun, NULL)) {
        complete = start_all(work, task, count, team);
        pthread_cond_destroy(&team->begun);
    }
    pthread_mutex_destroy(&team->lock);
    return complete;
}

#endif
