/* A team of threads for the time of one step, and a barrier where they wait for each other. */
#ifndef PTYCHO_THREADS_H
#define PTYCHO_THREADS_H

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>

enum { MOST_THREADS = 64, SPINS_BEFORE_YIELDING = 4096 };

typedef struct {
    int32_t count;
    atomic_int arrived, round;
} Barrier;

/* Spins for some microseconds, then yields the core: waiting must not starve a thread that has work. */
static void wait_for_all(Barrier *barrier) {
    const int round = atomic_load(&barrier->round);
    if (atomic_fetch_add(&barrier->arrived, 1) == barrier->count - 1) {
        atomic_store(&barrier->arrived, 0);
        atomic_fetch_add(&barrier->round, 1);
        return;
    }
    for (int spins = 0; atomic_load(&barrier->round) == round; spins++)
        if (spins > SPINS_BEFORE_YIELDING) sched_yield();
}

typedef struct {
    void (*work)(void *task, int32_t thread);
    void *task;
    int32_t thread;
} Member;

/* A thread waits here until all of its team have started; the answer is 0 where one could not. */
static int joined(int32_t thread, atomic_int *go) {
    while (thread && !atomic_load(go)) sched_yield();
    return atomic_load(go) >= 0;
}

static void *member_main(void *argument) {
    Member *member = argument;
    member->work(member->task, member->thread);
    return NULL;
}

/* Run `work` as threads 0 .. count-1 (0 is the caller's). Where the system gives no thread, nothing runs and the
 * answer is 0: the caller starts again with one thread. */
static int run_team(void (*work)(void *, int32_t), void *task, int32_t count, atomic_int *go) {
    pthread_t threads[MOST_THREADS];
    Member members[MOST_THREADS];
    int32_t started = 1;
    atomic_store(go, 0);
    for (; started < count; started++) {
        members[started] = (Member){work, task, started};
        if (pthread_create(&threads[started], NULL, member_main, &members[started])) break;
    }
    const int complete = started == count;
    atomic_store(go, complete ? 1 : -1);
    if (complete) work(task, 0);
    for (int32_t k = 1; k < started; k++) pthread_join(threads[k], NULL);
    return complete;
}

#endif
