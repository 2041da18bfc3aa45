"""What a process does for an engine that has the process to itself.

The server's worker and the command line call `own_process`. The library does not: `LLM(...)` runs
in a program that belongs to its caller, and leaves the caller's garbage collector, threads and
allocator as they are. A program of your own whose work is the engine may call it as well, best
before anything imports torch:

    from pellucid.process import own_process

    own_process()
"""

from __future__ import annotations

import ctypes
import gc
import os
import sys
import threading
from collections.abc import Callable
from functools import cache


@cache
def own_process() -> None:
    """Set threads, allocator and garbage collector of this process for steps of milliseconds.

    Imports torch. Once in a process is enough; later calls do nothing.
    """
    wait_briefly()
    put_off_collection()
    import torch

    torch.set_num_threads(num_cores())
    keep_freed_memory()
    collect_seldom()


def num_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def wait_briefly() -> None:
    """Have OpenMP's threads wait for each other for microseconds before they sleep.

    By default they spin for milliseconds. On a shared machine whoever spins keeps the one waited
    for off its core, and a token takes ten times as long. OpenMP reads the variable when torch is
    imported: afterwards this does nothing.
    """
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")


_LOW_PRIORITY = 10
"""Of 19. A thread of this niceness gets a tenth of a core that another one wants."""


def in_background(work: Callable[[], object]) -> None:
    """Do `work` at a low priority, and wait for it.

    On Linux each thread has its own priority. A process that has lowered its own may not raise it
    again, hence the thread, which ends with the work. Elsewhere `work` is done as usual.
    """

    def target() -> None:
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _LOW_PRIORITY)
        work()

    if not sys.platform.startswith("linux"):
        work()
        return
    thread = threading.Thread(target=target, name="background")
    thread.start()
    thread.join()


_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h
_KEEP = 32 * 2**20  # the most that glibc takes for a mmap threshold


def keep_freed_memory() -> None:
    """Have glibc keep what a step frees for the next step.

    By default a tensor above 128 KiB is mapped when it is made and unmapped when it dies, and the
    kernel zeroes every page of it in between: for the activations of a long chunk that costs more
    than computing them. Other C libraries are left alone.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _KEEP)
        mallopt(_M_TRIM_THRESHOLD, 16 * _KEEP)


def collect_seldom() -> None:
    """Have Python's garbage collector never visit again what exists now, above all torch's modules,
    and run seldom on the rest.

    A full collection visits every object of the process and stops everything meanwhile: tens of
    milliseconds, several steps long. A step makes a few short-lived objects for each row: with
    Python's own thresholds that is a collection in every step, and a full one every few seconds.
    """
    gc.freeze()  # with the little garbage that the imports leave: finding it takes 0.2 s
    gc.set_threshold(20_000, 20, 50)
    gc.enable()


def put_off_collection() -> None:
    """Let Python's garbage collector rest until `collect_seldom`.

    Torch's import makes 180,000 objects, nearly all of which stay. Visiting them again and again
    while more are made is a tenth of the time that it takes.
    """
    gc.disable()
