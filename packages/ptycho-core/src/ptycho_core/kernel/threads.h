/* Crews of threads that stay for the next step, and a barrier where those of a step wait for each other.
 *
 * Who waits looks for some microseconds, as on a quiet host the others come within that, and then sleeps: a thread that
 * looked on would keep its core from one that has work, of this process or of another.
 *
 * A step takes a millisecond, which is too short for a scheduler to spread threads that are new or just awake: some leave
 * them on the caller's core, and two threads are then as slow as one. So the threads stay, and where Linux tells cores, a
 * thread that finds itself on the caller's goes to another one that the caller may use. */
#ifndef PTYCHO_THREADS_H
#define PTYCHO_THREADS_H

#include "vector.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#if defined(__linux__)
#include <sched.h>
#endif
#if !defined(_WIN32)
#include <signal.h>
#endif

/* Steps that may run at the same time on several threads; further ones do with the caller's. */
enum { MOST_THREADS = 64, LOOKS_BEFORE_SLEEP = 300, CREWS = 64 };

INLINE void look_again(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ __volatile__("yield");
#endif
}

/* Something that is counted up, and those who wait for it. */
typedef struct {
    atomic_int count;
    pthread_mutex_t lock;
    pthread_cond_t changed;
} Bell;

static void ring_and_unlock(Bell *bell) {
    atomic_fetch_add(&bell->count, 1);
    pthread_cond_broadcast(&bell->changed);
    pthread_mutex_unlock(&bell->lock);
}

static void ring(Bell *bell) {
    pthread_mutex_lock(&bell->lock);
    ring_and_unlock(bell);
}

static void wait_while(Bell *bell, int count) {
    for (int looks = 0; looks < LOOKS_BEFORE_SLEEP; looks++) {
        if (atomic_load(&bell->count) != count) return;
        look_again();
    }
    pthread_mutex_lock(&bell->lock);
    while (atomic_load(&bell->count) == count) pthread_cond_wait(&bell->changed, &bell->lock);
    pthread_mutex_unlock(&bell->lock);
}

typedef struct Crew Crew;

/* What a thread knows when it is hired. */
typedef struct {
    Crew *crew;
    int32_t thread;
    int steps; /* that were begun before it came */
} Hand;

/* A number of threads, and those of them that keep the caller company in a step. */
struct Crew {
    pthread_mutex_t taken;
    Bell begun, passed, ended; /* rung when a step begins, when all are at a barrier, and when the last has left the step */
    int32_t hired;             /* threads that wait for `begun`, the caller is none of them */
    int32_t count;             /* that work in this step, the caller among them */
    atomic_int arrived, left;  /* at the barrier; of the step, the caller aside */
    void (*work)(void *task, int32_t thread);
    void *task;
#if defined(__linux__)
    int core; /* the caller's, or -1 */
    cpu_set_t others; /* that the caller may use as well */
#endif
    Hand hands[MOST_THREADS];
};

static Crew crews[CREWS];
static pthread_once_t crews_known = PTHREAD_ONCE_INIT;

static void make_bell(Bell *bell) {
    atomic_store(&bell->count, 0);
    pthread_mutex_init(&bell->lock, NULL), pthread_cond_init(&bell->changed, NULL);
}

/* Nobody is hired: at the start, and in a process that was forked, where only its caller lives on. */
static void dismiss_crews(void) {
    memset(crews, 0, sizeof crews);
    for (int k = 0; k < CREWS; k++) {
        pthread_mutex_init(&crews[k].taken, NULL);
        make_bell(&crews[k].begun), make_bell(&crews[k].passed), make_bell(&crews[k].ended);
    }
}

static void know_crews(void) {
    dismiss_crews();
#if !defined(_WIN32)
    pthread_atfork(NULL, NULL, dismiss_crews);
#endif
}

static void wait_for_all(Crew *team) {
    if (!team) return; /* one thread alone */
    const int before = atomic_load(&team->passed.count);
    if (atomic_fetch_add(&team->arrived, 1) == team->count - 1) {
        atomic_store(&team->arrived, 0);
        ring(&team->passed);
    } else {
        wait_while(&team->passed, before);
    }
}

/* A thread's share of some things that follow each other. */
INLINE void share_of(int64_t count, int32_t thread, int32_t n_threads, int64_t *first, int64_t *last) {
    *first = count * thread / n_threads;
    *last = count * (thread + 1) / n_threads;
}

/* Find out where the caller is, and may be. */
static void see_cores(Crew *crew) {
#if defined(__linux__)
    crew->core = sched_getcpu();
    if (crew->core >= 0 && sched_getaffinity(0, sizeof crew->others, &crew->others)) crew->core = -1;
    if (crew->core < 0) return;
    CPU_CLR((size_t)crew->core, &crew->others);
    if (!CPU_COUNT(&crew->others)) crew->core = -1;
#else
    (void)crew;
#endif
}

/* Leave the caller's core; a system that refuses leaves the thread where it is. */
static void make_way(const Crew *crew) {
#if defined(__linux__)
    if (crew->core >= 0 && sched_getcpu() == crew->core) (void)sched_setaffinity(0, sizeof crew->others, &crew->others);
#else
    (void)crew;
#endif
}

static void *hand_main(void *argument) {
    const Hand *hand = argument;
    Crew *crew = hand->crew;
    for (int steps = hand->steps;;) {
        wait_while(&crew->begun, steps);
        /* The caller tells of a step, and reads who left it, under this lock. */
        pthread_mutex_lock(&crew->begun.lock);
        steps = atomic_load(&crew->begun.count);
        const int mine = hand->thread < crew->count;
        pthread_mutex_unlock(&crew->begun.lock);
        if (!mine) continue;
        make_way(crew);
        crew->work(crew->task, hand->thread);
        if (atomic_fetch_sub(&crew->left, 1) == 1) ring(&crew->ended);
    }
    return NULL;
}

/* Hire until so many threads work in a step, the caller among them; fewer where the system gives no more. */
static int32_t hire(Crew *crew, int32_t count) {
#if !defined(_WIN32)
    sigset_t every, before; /* signals are for threads that know what to do */
    sigfillset(&every), pthread_sigmask(SIG_SETMASK, &every, &before);
#endif
    while (crew->hired + 1 < count) {
        Hand *hand = &crew->hands[crew->hired];
        pthread_t thread;
        *hand = (Hand){crew, crew->hired + 1, atomic_load(&crew->begun.count)};
        if (pthread_create(&thread, NULL, hand_main, hand)) break;
        pthread_detach(thread);
        crew->hired++;
    }
#if !defined(_WIN32)
    pthread_sigmask(SIG_SETMASK, &before, NULL);
#endif
    return crew->hired + 1;
}

/* Run `work` as threads 0 .. count-1 (0 is the caller's). The answer is 0 where no crew is free, or the system did not give
 * so many threads: nothing has run then, and the caller starts again with one. */
static int run_team(void (*work)(void *, int32_t), void *task, int32_t count, Crew **team) {
    Crew *crew = NULL;
    if (count == 1) {
        *team = NULL;
        work(task, 0);
        return 1;
    }
    pthread_once(&crews_known, know_crews);
    for (int k = 0; k < CREWS && !crew; k++)
        if (!pthread_mutex_trylock(&crews[k].taken)) crew = &crews[k];
    if (!crew) return 0;
    const int complete = hire(crew, count) >= count;
    if (complete) {
        *team = crew;
        see_cores(crew);
        pthread_mutex_lock(&crew->begun.lock);
        crew->count = count, crew->work = work, crew->task = task;
        atomic_store(&crew->left, count - 1);
        ring_and_unlock(&crew->begun);
        work(task, 0);
        for (int ended; ended = atomic_load(&crew->ended.count), atomic_load(&crew->left);)
            wait_while(&crew->ended, ended);
    }
    pthread_mutex_unlock(&crew->taken);
    return complete;
}

#endif
