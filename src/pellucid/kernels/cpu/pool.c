/* Threads for the kernels.

   Work is cut into more tasks than threads, and whoever is free takes the next. The caller takes
   tasks like everyone else and waits only for tasks that a worker has begun: a worker that the
   system does not let run costs nothing. (OpenMP's threads all have to arrive: on a busy machine
   each product would wait for the slowest.) A worker that has nothing to do looks out for work for
   a moment, because kernels follow each other closely, and then sleeps. */

#include "pool.h"

#include <pthread.h>
#include <sched.h>
#include <stddef.h>
#include <time.h>

#define MAX_WORKERS 255
#define SPIN_NS 200000

struct job {
    void (*task)(void *, int64_t);
    void *arg;
    int64_t tasks, next, places; /* places: workers that may still join */
};

static struct {
    pthread_mutex_t caller, sleep; /* caller: held for the length of a job */
    pthread_cond_t wake;
    struct job *job;
    int64_t posted;                /* jobs so far */
    int64_t inside;                /* workers that may be looking at `job` */
    int64_t sleeping, workers;
} pool = {.caller = PTHREAD_MUTEX_INITIALIZER, .sleep = PTHREAD_MUTEX_INITIALIZER, .wake = PTHREAD_COND_INITIALIZER};

#define GET(x) __atomic_load_n(&(x), __ATOMIC_SEQ_CST)
#define SET(x, value) __atomic_store_n(&(x), value, __ATOMIC_SEQ_CST)
#define ADD(x, value) __atomic_fetch_add(&(x), value, __ATOMIC_SEQ_CST)

static inline void relax(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static int64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void take_tasks(struct job *job) {
    for (int64_t task; (task = ADD(job->next, 1)) < job->tasks;) job->task(job->arg, task);
}

/* Wait until more than `seen` jobs have been posted. */
static void await_job(int64_t seen) {
    for (int64_t end = now_ns() + SPIN_NS; now_ns() < end;)
        for (int i = 0; i < 32; i++) {
            if (GET(pool.posted) != seen) return;
            relax();
        }
    pthread_mutex_lock(&pool.sleep);
    ADD(pool.sleeping, 1);
    while (GET(pool.posted) == seen) pthread_cond_wait(&pool.wake, &pool.sleep);
    ADD(pool.sleeping, -1);
    pthread_mutex_unlock(&pool.sleep);
}

static void *worker(void *unused) {
    for (int64_t seen = 0;;) {
        await_job(seen);
        ADD(pool.inside, 1); /* before looking at the job: its caller waits for those inside */
        seen = GET(pool.posted);
        struct job *job = GET(pool.job);
        if (job && ADD(job->places, -1) > 0) take_tasks(job);
        ADD(pool.inside, -1);
    }
    return unused;
}

/* A forked child has none of the threads. */
static void after_fork(void) {
    pthread_mutex_init(&pool.caller, NULL);
    pthread_mutex_init(&pool.sleep, NULL);
    pthread_cond_init(&pool.wake, NULL);
    pool.job = NULL;
    pool.inside = pool.sleeping = pool.workers = 0;
}

static void hire(int64_t wanted) {
    static int registered;
    if (!registered) registered = pthread_atfork(NULL, NULL, after_fork) == 0;
    while (pool.workers < wanted && pool.workers < MAX_WORKERS) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, worker, NULL)) return; /* fewer will do */
        pthread_detach(thread);
        pool.workers++;
    }
}

void run_tasks(void (*task)(void *, int64_t), void *arg, int64_t tasks, int64_t threads) {
    struct job job = {task, arg, tasks, 0, threads - 1};
    if (threads < 2 || tasks < 2 || pthread_mutex_trylock(&pool.caller)) {
        take_tasks(&job); /* alone: also when another thread has the workers */
        return;
    }
    hire(threads - 1);
    SET(pool.job, &job);
    ADD(pool.posted, 1);
    if (GET(pool.sleeping)) {
        pthread_mutex_lock(&pool.sleep);
        pthread_cond_broadcast(&pool.wake);
        pthread_mutex_unlock(&pool.sleep);
    }
    take_tasks(&job);
    SET(pool.job, NULL);
    for (int spins = 0; GET(pool.inside); spins++)
        if (spins < 1000) relax();
        else sched_yield();
    pthread_mutex_unlock(&pool.caller);
}
