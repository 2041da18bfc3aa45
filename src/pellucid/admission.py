"""When waiting sequences may join: the `batching` switch.

    continuous   at any step
    dynamic      when the running batch has ended, after a moment (20 ms) for others to come
    static       the same, but the next batch must be full; after a second it starts anyway

By the book a static batch waits for ever for its last request; a live server would hang, so it
starts after a second at the latest.

Source: Yu et al. 2022 (Orca), OSDI.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from pellucid.config import EngineConfig


class Admission(Protocol):
    """When waiting sequences may join."""

    def opens(self, num_running: int, num_waiting: int, waited: float, expects_more: bool) -> bool:
        """Whether sequences may be admitted in this step.

        `waited` is how long the first in the queue has waited, in seconds; `expects_more` is False
        once the caller has said that no further request is coming.
        """


class ContinuousAdmission:
    """At any step."""

    def opens(self, num_running: int, num_waiting: int, waited: float, expects_more: bool) -> bool:
        return True


@dataclass(frozen=True, slots=True)
class BatchAdmission:
    """A batch is formed, runs until its last answer has ended, and only then the next is formed.

    It starts when it has `size` sequences, when its first one has waited for `patience` seconds, or
    when nothing more is expected.
    """

    size: int
    patience: float

    def opens(self, num_running: int, num_waiting: int, waited: float, expects_more: bool) -> bool:
        full = num_waiting >= self.size
        return num_running == 0 and (full or waited >= self.patience or not expects_more)


def choose_admission(config: EngineConfig) -> Admission:
    """What `batching` asks for."""
    match config.batching:
        case "static":
            return BatchAdmission(config.max_seqs, patience=1.0)
        case "dynamic":
            return BatchAdmission(config.max_seqs, patience=0.02)
        case _:
            return ContinuousAdmission()
