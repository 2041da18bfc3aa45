"""docs/learn: the lessons, made from bench/lessons/*.md by `bench/pages.py`.

Problem: a lesson quotes figures, output and lines of code, and all three rot.

Idea: what can rot is an expression in the lesson's template. `{{ code("engine.py", "Engine") }}`
becomes a link to the line where that stands today, and `{{ cpu.ms("decode", 128) | figure(1) }}` a
figure of a recorded run. A name that no source has, or a figure that no run holds, is an error, so
that the pages cannot be made (`tests/unit/test_lessons.py`). What a command prints is printed by
the command's own code, from the run that it once wrote.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import io
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2

import kv_cache
from page_results import ABLATION, CACHE, GPU, PEERS, RESULTS, load, memory_table
from page_switches import find
from pellucid.cli.crossover import answer_text, from_run
from pellucid.cli.measure import table
from pellucid.explore import runfile

ROOT = Path(__file__).parents[1]
TEMPLATES = ROOT / "bench" / "lessons"
LEARN = ROOT / "docs" / "learn"
UP = "../../"
"""From docs/learn to the repository."""
GROUPS = {
    "the host: plan, inputs, text": ("schedule", "prepare", "detokenize"),
    "attention": ("attention",),
    "the other matrices of the layers": ("qkv", "o_proj", "mlp"),
    "norms, rotation, writing keys and values": ("norm", "kv_write"),
    "embedding and head": ("embed", "lm_head"),
    "drawing the token": ("sample",),
    "what no stage claims": (runfile.OTHER,),
}


def pages() -> dict[Path, str]:
    """Path → the lesson that belongs there."""
    return {LEARN / path.name: page(path.name) for path in sorted(TEMPLATES.glob("*.md"))}


def page(name: str) -> str:
    text = (TEMPLATES / name).read_text(encoding="utf-8")
    title, rest = text.split("\n", 1)
    made = f"{title}\n\n<!-- made by: python bench/pages.py, from bench/lessons/{name} -->\n{rest}"
    return render(made) + "\n"


def render(text: str) -> str:
    """A template with its figures and links."""
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined)
    environment.filters |= {"figure": figure, "percent": percent}
    return environment.from_string(text).render(
        cpu=Run("run-smollm2-cpu.json"),
        small=Run("run-qwen3-0.6b-h100.json"),
        large=Run("run-llama-3.1-8b-h100.json"),
        plain=Run("prefill-plain.json"),
        tiled=Run("prefill-flash.json"),
        gpu=Gpu(),
        peers=load(PEERS),
        cache=Cache(),
        code=code,
        quote=quote,
        file=file,
        source=source,
        stages=stages,
        bounds=bounds,
        lengths=lengths,
        without=without,
        worked=worked,
    )


# --- links to what a lesson is about -------------------------------------------------------------


def code(path: str, name: str = "", text: str = "", title: str = "") -> str:
    """A link to the line of `name` (a function, a class, `Class.method`) in a file of the sources,
    or of the first line in it that holds `text`."""
    full = located(path)
    source = full.read_text(encoding="utf-8")
    first, last = span_of(source, name, path) if name else (1, len(source.splitlines()))
    if text:
        found = [n for n, line in enumerate(source.splitlines(), 1) if text in line]
        inside = [n for n in found if first <= n <= last]
        if not inside:
            raise LookupError(f"{path} {name} has no line with {text!r}")
        first = inside[0]
    label = title or name or path.rpartition("/")[2]
    return f"[`{label}`]({link_to(full)}#L{first})"


def quote(path: str, name: str) -> str:
    """The source of a function as it stands, behind a link to it."""
    source = located(path).read_text(encoding="utf-8")
    first, last = span_of(source, name, path)
    lines = source.splitlines()[first - 1 : last]
    indent = len(lines[0]) - len(lines[0].lstrip())
    body = "\n".join(line[indent:] for line in lines)
    return f"{code(path, name)} in full:\n\n```python\n{body}\n```"


def file(path: str, title: str = "") -> str:
    """A link to a file of the repository, named from its root."""
    full = ROOT / path
    if not full.exists():
        raise LookupError(f"there is no {path}")
    return f"[`{title or full.name}`]({link_to(full)})"


def source(name: str) -> str:
    """A link to a recorded result."""
    return file(f"bench/results/{name}")


def located(path: str) -> Path:
    """A file named from src/pellucid or from the repository."""
    for base in (ROOT / "src" / "pellucid", ROOT):
        if (base / path).is_file():
            return base / path
    raise LookupError(f"there is no {path}")


def link_to(full: Path) -> str:
    if full.is_relative_to(LEARN):
        return full.relative_to(LEARN).as_posix()
    if full.is_relative_to(ROOT / "docs"):
        return "../" + full.relative_to(ROOT / "docs").as_posix()
    return UP + full.relative_to(ROOT).as_posix()


def span_of(source: str, name: str, path: str) -> tuple[int, int]:
    """First and last line of a function or class."""
    body: Iterable[ast.stmt] = ast.parse(source).body
    node: ast.stmt | None = None
    for part in name.split("."):
        kinds = (ast.FunctionDef, ast.ClassDef)
        node = next((n for n in body if isinstance(n, kinds) and n.name == part), None)
        if not isinstance(node, kinds):
            raise LookupError(f"{path} has no {name}")
        body = node.body
    assert node is not None
    return node.lineno, node.end_lineno or node.lineno


# --- figures -------------------------------------------------------------------------------------


def figure(value: float, digits: int = 0) -> str:
    return f"{value:,.{digits}f}"


def percent(value: float) -> str:
    return f"{value:.0%}".replace("%", " %")


class Run:
    """A recorded run file, asked in milliseconds."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.record = runfile.read(RESULTS / name)
        self.source = source(name)
        self.spec = runfile.spec_of(self.record)
        self.model = self.record["model"]["name"]
        environment = self.record["environment"]
        self.machine = environment.get("gpu") or (
            f"{environment['cores']} cores of an {environment['cpu']}"
        )
        self.weight_bytes: int = self.record["weight_bytes"]
        self.kv_bytes: int = self.record["kv_bytes_per_token"]
        self.bytes_s: float = self.record["limits"]["read_bytes_s"]
        self.flop_s: float = self.record["limits"]["matmul_flop_s"]

    def cell(self, phase: str, length: int) -> dict[str, Any]:
        for cell in self.record["cells"]:
            if (cell["phase"], cell["length"], cell["batch"]) == (phase, length, 1):
                found: dict[str, Any] = cell
                return found
        raise LookupError(f"{self.name} has no {phase} of {length}")

    def lengths(self, phase: str) -> list[int]:
        return [cell["length"] for cell in self.record["cells"] if cell["phase"] == phase]

    def ms(self, phase: str, length: int, stages: Sequence[str] = ()) -> float:
        """The median time of a cell, or of some of its stages together."""
        cell = self.cell(phase, length)
        if not stages:
            return float(statistics.median(cell["wall_ns"])) / 1e6
        blocks = zip(*(cell["stages_ns"].get(stage, [0]) for stage in stages), strict=False)
        return statistics.median(map(sum, blocks)) / 1e6

    def share(self, phase: str, length: int, stage: str = "attention") -> float:
        return statistics.median(runfile.shares(self.cell(phase, length), stage))

    def bound_ms(self, length: int) -> float:
        """What reading all weights, keys and values takes at the machine's bandwidth."""
        return 1e3 * (self.weight_bytes + length * self.kv_bytes) / self.bytes_s

    def length_by_bytes(self, share: float) -> float:
        """From where keys and values are this share of the bytes that a step reads."""
        return share / (1 - share) * self.weight_bytes / self.kv_bytes

    def flop_per_byte(self) -> float:
        """Operations that the machine can do in the time of reading a byte."""
        return self.flop_s / self.bytes_s

    def printed(self, phase: str, lengths: Sequence[int]) -> str:
        """What `pellucid measure` prints of these cells."""
        cells = [self.cell(phase, length) for length in lengths]
        lines = table({**self.record, "cells": cells}).splitlines()
        return "\n".join([*lines[: 1 + len(cells)], "…"])

    def crossover(self) -> str:
        """What `pellucid crossover --run` prints."""
        args = argparse.Namespace(
            run_file=str(RESULTS / self.name), phase="decode", batch=1, seed=0
        )
        return answer_text(from_run(args))


class Gpu:
    """bench/results/gpu-h100.json."""

    def __init__(self) -> None:
        record = load(GPU)
        self.samples: dict[str, list[float]] = record["samples"]
        self.machine: str = record["environment"]["gpu"]
        self.source = source(GPU)
        self.memory = memory_table(self.samples)

    def median(self, key: str) -> float:
        return statistics.median(self.samples[key])


class Cache:
    """bench/results/kv-cache.json."""

    def __init__(self) -> None:
        self._record = load(CACHE)
        environment = self._record["environment"]
        self.machine = f"{environment['cores']} cores of an {environment['cpu']}"
        self.source = source(CACHE)
        self.exponents: dict[str, dict[str, float]] = self._record["exponents"]

    def ms(self, mode: str, length: int) -> float:
        for row in self._record["rows"]:
            if (row["kv_cache"], row["length"]) == (mode, length):
                return float(row["attention"] + row["rest"])
        raise LookupError(f"{CACHE} has no length {length} with the cache {mode}")

    def printed(self) -> str:
        """What `bench/kv_cache.py` prints."""
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            kv_cache.show(self._record["rows"], self._record["exponents"])
        return out.getvalue().rstrip()


def stages(runs: Sequence[Run], phase: str, length: int) -> str:
    """A table: groups of stages down, runs across, in milliseconds."""
    head = [f"{run.model}, {run.machine}" for run in runs]
    lines = [row("milliseconds", head), row("---", ["---:"] * len(runs))]
    for title, names in GROUPS.items():
        lines.append(row(title, [figure(run.ms(phase, length, names), 2) for run in runs]))
    walls = [f"**{figure(run.ms(phase, length), 2)}**" for run in runs]
    return "\n".join([*lines, row("**the whole**", walls)])


def bounds(runs: Sequence[Run], length: int) -> str:
    """A table of bounds and measured steps."""
    lines = [
        "| | weights, MB | a token's keys and values, kB | memory, GB/s | bound, ms | measured, ms "
        "| bound / measured |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for run in runs:
        bound, step = run.bound_ms(length), run.ms("decode", length)
        cells = [
            figure(run.weight_bytes / 1e6),
            figure(run.kv_bytes / 1e3),
            figure(run.bytes_s / 1e9),
            figure(bound, 2),
            figure(step, 2),
            percent(bound / step),
        ]
        lines.append(row(f"{run.model}, {run.machine}", cells))
    return "\n".join(lines)


def lengths(runs: Sequence[Run]) -> str:
    """A table: attention's share of a decode step, lengths down, runs across."""
    every = sorted(set().union(*(run.lengths("decode") for run in runs)))
    head = [f"{run.model}, {run.machine}" for run in runs]
    lines = [row("tokens before", head), row("---", ["---:"] * len(runs))]
    for length in every:
        cells = [
            percent(run.share("decode", length)) if length in run.lengths("decode") else ""
            for run in runs
        ]
        lines.append(row(figure(length), cells))
    return "\n".join(lines)


def row(title: str, cells: Iterable[str]) -> str:
    return f"| {' | '.join([title, *cells])} |"


def without(key: str) -> Mapping[str, Any]:
    """What the H100 loses without a switch, of bench/results/ablate-h100.json."""
    ablation = load(ABLATION)
    found, default = (find(ablation["rows"], name) for name in (key, "default"))
    if found is None or default is None:
        raise LookupError(f"{ABLATION} has no {key}")
    return {
        "source": source(ABLATION),
        "machine": ablation["environment"]["gpu"],
        "workload": ablation["workload"],
        "also": ", ".join(f"`{k}={v}`" for k, v in found["also"].items()),
        "ms": found["single_ms_per_token"]["median"],
        "default_ms": default["single_ms_per_token"]["median"],
        "single": found["single_time_vs_default"],
        "batch": found["batch_time_vs_default"],
    }


def worked(tiles: Sequence[Sequence[tuple[float, float]]]) -> str:
    """The running softmax over tiles of (score, value), step by step."""
    m, total, acc = -math.inf, 0.0, 0.0
    lines = ["            m      a       l      acc", "start      -∞      –   0.000    0.000"]
    for number, tile in enumerate(tiles, 1):
        highest = max(m, *(score for score, _ in tile))
        shrink = math.exp(m - highest)
        total = shrink * total + sum(math.exp(s - highest) for s, _ in tile)
        acc = shrink * acc + sum(math.exp(s - highest) * value for s, value in tile)
        m = highest
        lines.append(f"tile {number} {m:7.0f}  {shrink:5.3f}  {total:6.3f}  {acc:7.3f}")
    every = [pair for tile in tiles for pair in tile]
    weights = [math.exp(score) for score, _ in every]
    whole = sum(w * v for w, (_, v) in zip(weights, every, strict=True)) / sum(weights)
    lines.append(f"acc / l = {acc / total:.3f}; the softmax over all at once gives {whole:.3f}")
    return "\n".join(lines)
