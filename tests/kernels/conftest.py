"""Triton kernels run on the GPU, or, where there is none, in Triton's interpreter."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest
import torch

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # read when a kernel is decorated, so before any import


@pytest.fixture(scope="session")
def device() -> str:
    """Where the kernels under test run."""
    return "cuda" if torch.cuda.is_available() else "cpu"


@pytest.fixture(scope="session", autouse=True)
def quick_interpreter() -> None:
    """The interpreter prepares `triton.language` once a launch, not for each call of a function.

    It replaces a hundred members of the module whenever one kernel calls another, most of them by
    the same: a third of all the time. A Triton without these parts inside is left as it is.
    """
    if torch.cuda.is_available():
        return
    try:
        from triton.runtime import interpreter

        patch: Callable[[Any], Any] = interpreter._patch_lang
        nothing = interpreter._LangPatchScope()
    except (ImportError, AttributeError):
        return
    import triton.language as tl

    ready: set[str] = set()

    def patch_once(fn: Any) -> Any:
        seen = {one.__name__ for one in fn.__globals__.values() if one is tl or one is tl.core}
        if seen <= ready:
            return nothing
        outermost, scope = not ready, patch(fn)
        ready.update(seen)
        if outermost:  # a launch: what it restores at its end is no longer ready
            restore = scope.restore

            def restore_and_forget() -> None:
                restore()
                ready.clear()

            scope.restore = restore_and_forget
        return scope

    interpreter._patch_lang = patch_once
