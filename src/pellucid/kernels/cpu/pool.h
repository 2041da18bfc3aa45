/* Threads that all kernels share: see pool.c. */

#ifndef PELLUCID_POOL_H
#define PELLUCID_POOL_H

#include <stdint.h>

/* Call task(arg, 0), ..., task(arg, tasks - 1), each once, in any order, on up to `threads` threads;
   return when all have ended. */
void run_tasks(void (*task)(void *, int64_t), void *arg, int64_t tasks, int64_t threads);

#endif
