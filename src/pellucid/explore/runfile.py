"""The run file: one measurement, complete enough to be believed later and somewhere else.

Problem: a figure says little without the machine, model and switches that it belongs to; a median
without its samples can be given no interval; and a file that somebody edited looks like any other.

Idea: one JSON record holds all of it, raw samples included, and is named by a hash of what it says.
A link to a run then means exactly these figures, and a changed file no longer matches its name.

Layout of schema 1; times are nanoseconds, lengths tokens, one sample for each block of runs:

    schema, id          1; SHA-256 of everything else
    environment         machine, versions, commit, date
    model               name, and the fields of its `ModelSpec`
    engine, config      what the engine came to (`EngineInfo`), and what it was asked for
    weight_bytes        matrices that a decode step reads, and head_bytes the LM head's part
    kv_bytes_per_token  keys and values of all layers
    limits              read_bytes_s, matmul_flop_s: what this machine reached in the same run
    settings            what was asked of the measurement
    cells               one for each phase, length and batch:
        num_steps       steps in a run. A decode cell's times are those of one step; a prefill
                        cell's are those of the whole prompts, all their steps together
        wall_ns         of the plain runs
        timed_wall_ns   of the runs with borders between the stages
        stages_ns       by stage; `other` is the plain run's time that no stage claims
        median          of each of these
    closure             the largest |other| / wall: how far the stages are from being the whole
    instrument_ratio    timed wall / plain wall, and worst_instrument_ratio that of the worst cell
    interrupted         whether it was cut short

The stages of a block and its `other` add up to its `wall_ns` exactly. They come from two different
runs, so `other` holds what the borders cost (less than nothing) and what the machine did
differently in the two: it is shown and never spread over the stages.

Trade-off: raw samples make a file of some hundred kilobytes, where medians would take a few. Every
reader can then ask its own question of them.
"""

from __future__ import annotations

import hashlib
import json
import os
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
import numpy as np

from pellucid.errors import InputError
from pellucid.model.spec import ModelSpec

SCHEMA = 1
OTHER = "other"
"""The stage of what no other stage claims."""

Record = dict[str, Any]
"""A run file as it stands in memory: what `json.loads` makes of it."""

_Count = Annotated[int, msgspec.Meta(ge=1)]
_Times = Annotated[list[_Count], msgspec.Meta(min_length=1)]


class _Cell(msgspec.Struct):
    phase: Literal["decode", "prefill"]
    length: _Count
    batch: _Count
    num_steps: _Count
    wall_ns: _Times
    timed_wall_ns: _Times
    stages_ns: dict[str, list[int]]


class _Model(msgspec.Struct):
    name: str
    spec: ModelSpec


class _RunFile(msgspec.Struct):
    """What a file must have to be read; more does no harm."""

    id: str
    environment: Record
    model: _Model
    engine: Record
    config: Record
    weight_bytes: _Count
    kv_bytes_per_token: _Count
    limits: dict[str, float]
    settings: Record
    cells: Annotated[list[_Cell], msgspec.Meta(min_length=1)]
    closure: float
    instrument_ratio: float
    worst_instrument_ratio: float
    interrupted: bool


# --- on disk -------------------------------------------------------------------------------------


def seal(content: Mapping[str, Any]) -> Record:
    """The content as a run file: in JSON's own types, with schema and id."""
    record = json.loads(json.dumps({"schema": SCHEMA, "id": "", **content}, allow_nan=False))
    return {**record, "id": content_id(record)}


def content_id(record: Mapping[str, Any]) -> str:
    """SHA-256 of the record without its id, in hex: the same for the same values, whatever the
    order of keys, the white space, and whether a whole number is written 2 or 2.0."""
    content = _whole({key: value for key, value in record.items() if key != "id"})
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def read(path: str | Path) -> Record:
    """A run file from disk, validated; `InputError` names the file, the field and the remedy."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text: {_remedy(path)}") from error
    try:
        record = json.loads(text)
    except ValueError as error:
        raise InputError(f"{path} is not JSON ({error}): {_remedy(path)}") from error
    validate(record, str(path))
    return dict(record)


def write(record: Record, path: str | Path) -> None:
    """Put a sealed record on disk, whole or not at all; `InputError` if that cannot be done."""
    path = Path(path)
    validate(record, str(path))
    part = path.with_name(path.name + ".part")
    try:
        try:
            with part.open("w", encoding="utf-8") as file:
                json.dump(record, file, indent=1)
                file.write("\n")
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}") from error


def check_writable(path: str | Path) -> None:
    """`InputError` if `write` could not put a file there: better known before than after."""
    path = Path(path)
    if path.is_dir():
        raise InputError(f"cannot write {path}: it is a folder; name a file in it")
    if not path.parent.is_dir():
        raise InputError(f"cannot write {path}: there is no folder {path.parent}; make it first")
    if not os.access(path.parent, os.W_OK):
        raise InputError(f"cannot write {path}: the folder {path.parent} is write-protected")


# --- what makes it valid -------------------------------------------------------------------------


def validate(record: Any, name: str) -> None:
    """`InputError` unless `record` is a run file whose samples agree with each other and its id.

    name: what to call it in the message, such as its path.
    """
    if not isinstance(record, dict):
        raise InputError(f"{name} holds no JSON object: {_remedy(name)}")
    schema = record.get("schema")
    if schema != SCHEMA:
        raise InputError(
            f"{name}: schema must be {SCHEMA}, not {schema!r}: read it with the version of "
            "pellucid that wrote it, or measure again",
            param="schema",
        )
    try:
        run = msgspec.convert(record, _RunFile)
    except msgspec.ValidationError as error:
        raise InputError(f"{name}: {error}: {_remedy(name)}") from error
    for number, cell in enumerate(run.cells):
        if wrong := _disagreement(cell):
            raise InputError(f"{name}: cells[{number}].{wrong}: {_remedy(name)}", param="cells")
    if len({len(cell.wall_ns) for cell in run.cells}) > 1:
        raise InputError(
            f"{name}: cells have different numbers of blocks: {_remedy(name)}", param="cells"
        )
    if run.id != content_id(record):
        raise InputError(
            f"{name}: id does not match the content, so the file was changed after it was "
            "written: take the original, or measure again",
            param="id",
        )


def spec_of(record: Record) -> ModelSpec:
    """The shape of the model that was measured."""
    return msgspec.convert(record["model"]["spec"], ModelSpec)


def _disagreement(cell: _Cell) -> str:
    """Which field of a cell does not go with the others, and why; empty if all is well."""
    num_blocks = len(cell.wall_ns)
    if len(cell.timed_wall_ns) != num_blocks:
        return f"timed_wall_ns has {len(cell.timed_wall_ns)} samples where wall_ns has {num_blocks}"
    for stage, times in cell.stages_ns.items():
        if len(times) != num_blocks:
            return f"stages_ns.{stage} has {len(times)} samples where wall_ns has {num_blocks}"
    if OTHER not in cell.stages_ns:
        return f"stages_ns has no {OTHER}"
    if [sum(times) for times in zip(*cell.stages_ns.values(), strict=True)] != cell.wall_ns:
        return "stages_ns do not add up to wall_ns"
    return ""


def _remedy(path: str | Path) -> str:
    return f"name a run file, such as `pellucid measure --json {Path(path).name}` writes"


def _whole(value: Any) -> Any:
    """The value with 2 in place of 2.0 throughout."""
    if isinstance(value, dict):
        return {key: _whole(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_whole(entry) for entry in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


# --- what the samples say ------------------------------------------------------------------------

_NUM_RESAMPLES = 2000


class Interval(NamedTuple):
    """A median and the 95 % interval around it."""

    value: float
    lo: float
    hi: float


def interval(samples: Sequence[float], seed: int = 0) -> Interval:
    """The median of the samples, and where it would be in 95 % of all such measurements.

    By bootstrap: how far do medians of as many samples, drawn from these with replacement, spread?
    The same seed gives the same interval. Source: Efron 1979, doi:10.1214/aos/1176344552.
    """
    values = np.asarray(samples, dtype=np.float64)
    picks = np.random.default_rng(seed).integers(len(values), size=(_NUM_RESAMPLES, len(values)))
    lo, hi = np.quantile(np.median(values[picks], axis=1), (0.025, 0.975))
    return Interval(statistics.median(values.tolist()), float(lo), float(hi))


def variation(samples: Sequence[float]) -> float:
    """Standard deviation over mean; 0 for a single sample."""
    return statistics.stdev(samples) / statistics.fmean(samples) if len(samples) > 1 else 0.0


def shares(cell: Record, stage: str) -> list[float]:
    """A stage's part of the run that it was timed in, block by block.

    The time of the borders is in that run and in no stage. So shares of all stages add up to 1 with
    `other`, which is what the timed run took besides, and no share can be more than 1; `stages_ns`
    of `other` is something else, the difference between two runs.
    """
    claimed = [
        sum(times)
        for times in zip(
            *(times for name, times in cell["stages_ns"].items() if name != OTHER), strict=True
        )
    ] or [0] * len(cell["wall_ns"])
    wholes = [max(pair) for pair in zip(cell["timed_wall_ns"], claimed, strict=True)]
    if stage == OTHER:
        return [1 - part / whole for part, whole in zip(claimed, wholes, strict=True)]
    times = cell["stages_ns"].get(stage, [0] * len(wholes))
    return [time / whole for time, whole in zip(times, wholes, strict=True)]


def closure(cells: Sequence[Record]) -> float:
    """The largest |other| / wall of any cell, medians both.

    A machine that slows down in one of the two runs of a block makes `other` large with either
    sign. In the median that cancels, and what is systematic stays.
    """
    return max(
        float(abs(statistics.median(cell["stages_ns"][OTHER])) / statistics.median(cell["wall_ns"]))
        for cell in cells
    )


def instrument_ratio(cell: Record) -> float:
    """How much longer a cell's runs take with borders between the stages: median over blocks."""
    pairs = zip(cell["timed_wall_ns"], cell["wall_ns"], strict=True)
    return float(statistics.median(timed / plain for timed, plain in pairs))


def with_median(cell: Record) -> Record:
    """The cell, and the medians of its samples beside them."""
    stages = {stage: statistics.median(times) for stage, times in cell["stages_ns"].items()}
    walls = {key: statistics.median(cell[key]) for key in ("wall_ns", "timed_wall_ns")}
    return {**cell, "median": {**walls, "stages_ns": stages}}
