"""What an engine on a GPU takes time for whatever its model is, begun before the model is known.

Problem: before the first weight is read, the driver makes a context, some tenths of a second in
which the processor only waits, and Triton and the kernels' sources are imported, one second or two.
Idea: a process that will hold an engine is told at its start what the engine may run on. A thread
has the driver make the context while torch is imported, since the driver works outside of Python's
lock; and the kernels are imported with the engine, so that a spare process has them as well.

Trade-off: a context takes some hundred MB of the GPU. A process that only waits has none.
"""

from __future__ import annotations

import ctypes
import os
import threading
from importlib import import_module
from importlib.util import find_spec

KERNELS = (
    "pellucid.attention.flash_gpu",
    "pellucid.kernels.triton.ahead",
    "pellucid.kernels.triton.inputs",
    "pellucid.kernels.triton.ops",
    "pellucid.kernels.triton.units",
    "pellucid.sampling.pivot",
)
"""What loads only where there is a GPU."""


def begin_context() -> threading.Thread:
    """Have the driver make this process's context on the first GPU, if there is one.

    What fails here fails again when torch asks for the context, and is told then.
    """
    # As torch has it. The driver reads it once: a kernel is loaded when it is first launched.
    os.environ.setdefault("CUDA_MODULE_LOADING", "LAZY")
    thread = threading.Thread(target=_make_context, name="context", daemon=True)
    thread.start()
    return thread


def _make_context() -> None:
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return
    device, context = ctypes.c_int(), ctypes.c_void_p()
    if driver.cuInit(0) == 0 and driver.cuDeviceGet(ctypes.byref(device), 0) == 0:
        # The primary context, which is the one that torch uses. It stays until the process ends.
        driver.cuDevicePrimaryCtxRetain(ctypes.byref(context), device)


def import_kernels() -> None:
    """Import Triton and all kernels for GPUs if torch sees a GPU; makes no context."""
    import torch

    if torch.cuda.device_count() and find_spec("triton") is not None:
        for module in KERNELS:
            import_module(module)
