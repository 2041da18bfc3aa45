"""Compiling kernels before they are needed, all at once.

Problem: Triton compiles a kernel when it is first launched, and the launch waits. A first token
needs some twenty kernels of half a second to a second each, one after the other.

Idea: walk through the step twice. On the first walk a launch only hands in its kernel, with the
very arguments that decide how it is compiled, and a pool of threads compiles what was handed in
(most of the work is done outside of Python's lock). The second walk finds everything ready.

Trade-off: what the first walk computes is garbage, since nothing was launched, so it must not
matter: no step may read an index from memory that a kernel should have written. Kernels named in
`launched` are compiled and launched at once.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import torch
from triton.runtime._async_compile import AsyncCompileMode
from triton.runtime.jit import JITFunction


@contextmanager
def compiling_ahead(launched: Collection[Any] = ()) -> Iterator[None]:
    """Launches inside are not made; when the block ends, their kernels are compiled."""
    run = JITFunction.run

    def ask(self: Any, *args: Any, grid: Any, warmup: bool, **kwargs: Any) -> Any:
        return run(self, *args, grid=grid, warmup=self not in launched, **kwargs)

    workers = min(16, len(os.sched_getaffinity(0)))
    # Loading a kernel takes a context in the thread that does it, hence the initializer.
    with ThreadPoolExecutor(workers, initializer=torch.cuda.synchronize) as pool:
        with AsyncCompileMode(pool) as mode:
            JITFunction.run = ask
            try:
                yield
            finally:
                JITFunction.run = run
        # Each kernel has a launcher as well, a small C program that is compiled when it is loaded.
        list(pool.map(lambda made: made.result()._init_handles(), mode.future_kernels.values()))
