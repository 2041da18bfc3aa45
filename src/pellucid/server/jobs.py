"""What the engine's process does besides making answers: measure, and look inside.

Each is a function of the engine, so that the loop (`worker.py`) knows neither; and both load only
where they are asked for, so that they cost a start nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import msgspec

from pellucid.errors import InputError


class Report(Protocol):
    """Takes what is being done, how much of how much, a line to read or nothing, and what has been
    measured of a cell so far, if something new has."""

    def __call__(
        self,
        doing: str,
        done: float,
        total: float,
        note: str,
        cell: dict[str, Any] | None = None,
    ) -> None: ...


Runs = tuple[dict[str, Any], dict[str, Any] | None]
"""A run file, and another if two settings were measured in turns."""
Measurer = Callable[[Any, dict[str, Any], Report, Callable[[], None]], Runs]
"""Engine, settings, where to report, and what to call between steps → run files; `InputError` if
the settings are bad."""
Looker = Callable[[Any, dict[str, Any]], dict[str, Any]]
"""Engine, wish → what its heads look at; `InputError` if the wish is bad."""


def measure_engine(
    engine: Any, settings: dict[str, Any], report: Report, listen: Callable[[], None]
) -> Runs:
    """`Measurer` of a real engine. Settings: those of `explore.cells`, and `against`, the switches
    of a second setting that is to be measured in turns with the engine's own."""
    from pellucid.explore.cells import Settings  # these load where they are asked for
    from pellucid.explore.measure import MeasureProgress, measure_cells
    from pellucid.explore.turns import measure_in_turns

    settings = dict(settings)
    against = settings.pop("against", None)
    try:
        wanted = msgspec.convert(settings, Settings)
    except msgspec.ValidationError as error:
        raise InputError(f"measure: {error}") from error

    def progress(p: MeasureProgress) -> None:
        report(p.doing, p.done, p.total, p.note, p.cell)

    if against:
        return measure_in_turns(engine, wanted, against, progress, listen)
    return measure_cells(engine, wanted, progress, listen), None


def look_at_engine(engine: Any, wish: dict[str, Any]) -> dict[str, Any]:
    """`Looker` of a real engine."""
    from pellucid.explore.attention import AttentionWish, show_attention

    return show_attention(engine, msgspec.convert(wish, AttentionWish))
