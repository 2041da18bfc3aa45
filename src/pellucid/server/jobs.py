"""What the engine's process does besides making answers: measure, and look inside.

Each is a function of the engine, so that the loop (`worker.py`) knows neither; and both load only
where they are asked for, so that they cost a start nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from pellucid.errors import InputError

Report = Callable[[str, float, float, str], None]
"""What is being done, how much of how much, and a line to read or nothing."""
Measurer = Callable[[Any, dict[str, Any], Report, Callable[[], None]], dict[str, Any]]
"""Engine, settings, where to report, and what to call between steps → a run file; `InputError` if
the settings are bad."""
Looker = Callable[[Any, dict[str, Any]], dict[str, Any]]
"""Engine, wish → what its heads look at; `InputError` if the wish is bad."""


def measure_engine(
    engine: Any, settings: dict[str, Any], report: Report, listen: Callable[[], None]
) -> dict[str, Any]:
    """`Measurer` of a real engine."""
    from pellucid.explore.cells import Settings
    from pellucid.explore.measure import measure_cells

    try:
        wanted = msgspec.convert(settings, Settings)
    except msgspec.ValidationError as error:
        raise InputError(f"measure: {error}") from error
    return measure_cells(engine, wanted, lambda p: report(p.doing, p.done, p.total, p.note), listen)


def look_at_engine(engine: Any, wish: dict[str, Any]) -> dict[str, Any]:
    """`Looker` of a real engine."""
    from pellucid.explore.attention import AttentionWish, show_attention

    return show_attention(engine, msgspec.convert(wish, AttentionWish))
