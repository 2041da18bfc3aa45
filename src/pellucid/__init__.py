"""pellucid: an LLM inference engine that you can see through.

    from pellucid import LLM, SamplingParams

The names here load on first use, so that importing a part of the package (the server's HTTP
process, say) does not import the rest.
"""

from __future__ import annotations

from importlib import import_module

TYPE_CHECKING = False  # what type checkers take to be true; typing itself costs 10 ms to import
if TYPE_CHECKING:
    from typing import Any

    from pellucid.config import EngineConfig
    from pellucid.errors import InputError
    from pellucid.llm import LLM
    from pellucid.request import Output, SamplingParams

__all__ = ["LLM", "EngineConfig", "InputError", "Output", "SamplingParams", "__version__"]

__version__ = "0.1.0"

_HOMES = {
    "LLM": "pellucid.llm",
    "EngineConfig": "pellucid.config",
    "InputError": "pellucid.errors",
    "Output": "pellucid.request",
    "SamplingParams": "pellucid.request",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'pellucid' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
