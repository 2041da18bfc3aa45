"""The run files that a server has: measured here, and those that come with pellucid.

What is measured is kept on disk, in `$PELLUCID_STATE/runs` (or `$XDG_STATE_HOME/pellucid/runs`, or
~/.local/state/pellucid/runs), and is there again when the server starts anew. The runs that the
documentation quotes come with pellucid: so a page has something to show before anything has been
measured here, marked as recorded on another machine.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pellucid.errors import InputError
from pellucid.explore import runfile
from pellucid.explore.answer import answers_of
from pellucid.explore.peaks import CALIBRATION_SCHEMA

MAX_RUNS = 32
"""Measured runs that are kept; the oldest goes first."""
PACKAGE = Path(__file__).parents[1]
SHIPPED = (PACKAGE / "recorded", PACKAGE.parents[1] / "bench" / "results")
"""Where the recorded runs lie: in an installed package, in a checkout."""

logger = logging.getLogger("pellucid")
Kind = Literal["measured", "recorded"]


class Known(NamedTuple):
    run: runfile.Record
    kind: Kind


def state_folder() -> Path:
    """Where a server keeps what it has measured."""
    if own := os.environ.get("PELLUCID_STATE"):
        return Path(own).expanduser()
    shared = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    return Path(shared).expanduser() / "pellucid"


class Runs:
    """Run files by id. folder: where measured ones are kept; None: in memory alone."""

    def __init__(self, folder: Path | None = None, most: int = MAX_RUNS) -> None:
        self._folder = folder
        self._most = most
        self._measured: dict[str, runfile.Record] = {}
        """Oldest first."""
        self._answers: dict[tuple[str, Kind], list[dict[str, Any]]] = {}
        """Of runs that were looked at, by id and kind."""
        self._recorded = {run["id"]: run for run in _shipped()}
        for run in _read_all(folder, "*.json", most) if folder else ():
            self._measured[run["id"]] = run

    def keep(self, run: runfile.Record) -> None:
        """Add a run that was measured here; what is too much goes, the oldest first."""
        self._measured.pop(run["id"], None)
        self._measured[run["id"]] = run
        self._write(run)
        while len(self._measured) > self._most:
            self._forget(next(iter(self._measured)))

    def get(self, run_id: str, device: str) -> Known | None:
        """A run, and whether it was measured on this `device` or is recorded from another."""
        if run := self._measured.get(run_id):
            return Known(run, "measured" if device_of(run) == device else "recorded")
        if run := self._recorded.get(run_id):
            return Known(run, "recorded")
        return None

    def answers(self, known: Known) -> list[dict[str, Any]]:
        """What a run says, worked out once: half a second of arithmetic."""
        key = known.run["id"], known.kind
        if key not in self._answers:
            self._answers[key] = answers_of(known.run, known.kind)
        return self._answers[key]

    def best_first(self, device: str, model: str, on_gpu: bool) -> list[Known]:
        """All of them: measured on this device, the latest first; then recorded ones, those of the
        same model and the same kind of device first."""

        def rank(known: Known) -> tuple[bool, bool, bool, str]:
            run = known.run
            return (
                known.kind == "measured",
                run["model"]["name"] == model,
                run["engine"]["device"].startswith("cuda") == on_gpu,
                run["environment"]["date"],
            )

        # Sorting keeps this order among equals: of two runs of one second the later comes first.
        ids = dict.fromkeys((*reversed(self._measured), *self._recorded))
        found = [known for run_id in ids if (known := self.get(run_id, device))]
        return sorted(found, key=rank, reverse=True)

    def _write(self, run: runfile.Record) -> None:
        if not self._folder:
            return
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            path = self._folder / _file_name(run)
            part = path.with_suffix(".part")
            part.write_text(json.dumps(run, ensure_ascii=False), encoding="utf-8")
            part.replace(path)
        except OSError as error:
            logger.warning("the run is not kept on disk: %s", error)

    def _forget(self, run_id: str) -> None:
        run = self._measured.pop(run_id)
        for kind in ("measured", "recorded"):
            self._answers.pop((run_id, kind), None)
        if self._folder:
            with contextlib.suppress(OSError):  # a folder that may not be written was told of
                (self._folder / _file_name(run)).unlink()


class Fits:
    """Calibrations by the id of their run: those of the recorded runs, and the last ones made."""

    def __init__(self, most: int = MAX_RUNS) -> None:
        self._most = most
        self._files = {fit["run"]: fit for fit in _shipped_fits()}

    def __contains__(self, run_id: str) -> bool:
        return run_id in self._files

    def __getitem__(self, run_id: str) -> dict[str, Any]:
        return self._files[run_id]

    def keep(self, fit: dict[str, Any]) -> None:
        """What is too much goes, the oldest first."""
        self._files[fit["run"]] = fit
        while len(self._files) > self._most:
            del self._files[next(iter(self._files))]


def entry(known: Known) -> dict[str, Any]:
    """What a list says of a run."""
    run = known.run
    return {
        "id": run["id"],
        "date": run["environment"]["date"],
        "model": run["model"]["name"],
        "device": device_of(run),
        "kind": known.kind,
        "phases": list(dict.fromkeys(cell["phase"] for cell in run["cells"])),
        "switches": run["engine"].get("switches", {}),
    }


def device_of(run: runfile.Record) -> str:
    """What was measured; a machine with a GPU can have been measured on its CPU."""
    environment = run["environment"]
    on_gpu = run["engine"]["device"].startswith("cuda")
    return str((on_gpu and environment.get("gpu")) or environment["cpu"])


def _file_name(run: runfile.Record) -> str:
    """Names sort by date, and the file's name tells which it is."""
    date = "".join(c for c in run["environment"]["date"][:19] if c.isalnum())
    return f"{date}-{run['id'][:12]}.json"


def _shipped() -> list[runfile.Record]:
    folder = next((folder for folder in SHIPPED if folder.is_dir()), None)
    return list(_read_all(folder, "run-*.json")) if folder else []


def _shipped_fits() -> Iterator[dict[str, Any]]:
    """Without the environment that they were made in, which is no part of an answer."""
    folder = next((folder for folder in SHIPPED if folder.is_dir()), None)
    for path in sorted(folder.glob("calibrated-*.json")) if folder else ():
        with contextlib.suppress(OSError, ValueError):  # then it is made when it is asked for
            fit = json.loads(path.read_text(encoding="utf-8"))
            fit.pop("environment", None)
            if fit["schema"] == CALIBRATION_SCHEMA:
                yield fit


def _read_all(folder: Path, pattern: str, most: int = MAX_RUNS) -> Iterator[runfile.Record]:
    """The last run files there, in the order of their names; what is none is said and left out."""
    for path in sorted(folder.glob(pattern))[-most:]:
        try:
            run = json.loads(path.read_text(encoding="utf-8"))
            runfile.validate(run, str(path))
            yield run
        except (OSError, ValueError, InputError) as error:
            logger.warning("a run is left out: %s", error)
