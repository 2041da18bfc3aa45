"""Where the time would go at every length: for one setting of the switches, and for its neighbours.

Problem: someone who looks at a budget asks what a switch would change, here or on another machine,
and wants to see it while the hand is still on the switch.

Idea: a *curve* holds the modelled seconds of each stage at some forty lengths, from 1 token to the
end of the context. Asked for one setting, the answer brings its curve and those of all settings
that differ from it in one switch (`alternatives.py`), so that whoever draws them has the next
picture before it is wanted.

    asked    attention flash, kv_cache on, …        at 1, 2, 3, 4, 5, 6, 7, 8, 10, …, 8192 tokens
    brought  attention sdpa · attention naive · kv_cache off · …

A *request* is a prompt and the decode steps of its answer: the prefill of S tokens yields the first
token, and N tokens take N - 1 decode steps more, which see S + 1 … S + N - 1 tokens. Steps between
two lengths of the decode curve lie on a straight line.

Trade-off: twenty curves are a tenth of a second of arithmetic and 50 kB of numbers, most of which
nobody will look at. Asking again at every press would make each press wait.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Literal

from pellucid.errors import InputError
from pellucid.explore.alternatives import Setup
from pellucid.explore.answer import as_json, sentence
from pellucid.explore.crossover import Seconds, grid, modelled, read_off
from pellucid.explore.roofline import MODELLED, Hardware, Prices
from pellucid.explore.steps import spread_over
from pellucid.explore.workload import Phase, Workload
from pellucid.features import FEATURES
from pellucid.model.spec import ModelSpec

Scope = Literal["decode", "prefill", "request"]
DIGITS = 5
"""Of a number of seconds that is sent."""
MOST = 1 << 24
"""Of anything that is counted in a model's shape, and of tokens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A model on a machine, and what it computes there. Bad numbers raise `InputError`."""

    name: str
    """Of the model, for people."""
    spec: ModelSpec
    hardware: Hardware
    setting: Setup
    scope: Scope = "decode"
    batch: int = 1
    num_outputs: int = 128
    """Of a whole request, the tokens of its answer."""
    lengths: tuple[int, ...] = ()
    """To be among those of the curve, besides the round ones."""

    def __post_init__(self) -> None:
        check_spec(self.spec)
        check_hardware(self.hardware)
        for name in ("batch", "num_outputs"):
            if not 1 <= getattr(self, name) <= MOST:
                raise InputError(f"{name} must be between 1 and {MOST:,}", param=name)
        if self.last < 1:
            raise InputError(
                f"an answer of {self.num_outputs} tokens leaves no room for a prompt in a context "
                f"of {self.spec.context_length}: ask for fewer",
                param="num_outputs",
            )

    @property
    def last(self) -> int:
        """The longest that fits into the context."""
        room = self.spec.context_length
        return room - self.num_outputs + 1 if self.scope == "request" else room


def curves_of(question: Question, *, alternatives: bool = True) -> dict[str, Any]:
    """The curve asked for, first, and those one switch away; as JSON."""
    setting, machine = question.setting, question.hardware
    given = {length for length in question.lengths if 1 <= length <= question.last}
    lengths = sorted(given | set(grid(question.last)))
    others = setting.one_away() if alternatives else ()
    return {
        "model": question.name,
        "machine": machine.name,
        "kind": machine.kind,
        "band": [machine.fastest, machine.slowest],
        "scope": question.scope,
        "batch": question.batch,
        "num_outputs": question.num_outputs,
        "lengths": lengths,
        "stages": list(MODELLED),
        "curves": [
            {"switch": "", "value": "", **curve(question, lengths, exact=True)},
            *(
                {"switch": key, "value": value, **curve(replace(question, setting=other), lengths)}
                for key, value, other in others
            ),
        ],
        "not_modelled": [f.key for f in FEATURES if not setting.knows(f.key)],
    }


def curve(question: Question, lengths: Sequence[int], *, exact: bool = False) -> dict[str, Any]:
    """Seconds by length and stage, the switches they hold for, and where attention matters.

    exact: that place is searched for, and so is its band. Otherwise it is read off the curve, to
    about a hundredth, and has no band.
    """
    at = seconds_of(question)
    curve = {length: at(length) for length in lengths}
    if exact:
        found = modelled(at, question.hardware, question.last)
    else:
        found = read_off(curve, question.hardware.kind)
    answer = {"phase": question.scope, "batch": question.batch, **as_json(found)}
    return {
        "switches": question.setting.switches,
        "seconds": [[rounded(seconds[stage]) for stage in MODELLED] for seconds in curve.values()],
        "answer": {**answer, "sentence": sentence(question.name, question.hardware.name, answer)},
    }


def rounded(seconds: float) -> float:
    return float(f"{seconds:.{DIGITS}g}")


def seconds_of(question: Question) -> Seconds:
    """From a length to the seconds of each stage."""
    if question.scope == "request":
        return request_seconds(question)
    return phase_seconds(question, question.scope)


def phase_seconds(question: Question, phase: Phase) -> Seconds:
    """Of a decode step, or of a batch of prompts."""
    batch = question.batch
    prices = Prices(question.spec, question.setting.choices, question.hardware)
    return cache(lambda n: prices.seconds(Workload(phase=phase, length=n, batch=batch)))


def request_seconds(question: Question) -> Seconds:
    """Of prompts and their answers."""
    prompt, step = phase_seconds(question, "prefill"), phase_seconds(question, "decode")
    nodes = grid(question.spec.context_length)

    @cache
    def at(length: int) -> Mapping[str, float]:
        total = dict(prompt(length))
        for node, count in spread_over(nodes, length + 1, length + question.num_outputs - 1):
            for stage, seconds in step(node).items():
                total[stage] += count * seconds
        return total

    return at


def check_spec(spec: ModelSpec) -> None:
    """`InputError` for a shape that no arithmetic survives."""
    sizes = ("vocab_size", "hidden_size", "intermediate_size", "head_dim", "context_length")
    counts = {"num_layers": 1000, "num_heads": 10_000, "num_kv_heads": 10_000}
    for name, most in (dict.fromkeys(sizes, MOST) | counts).items():
        if not 1 <= getattr(spec, name) <= most:
            raise InputError(f"{name} must be between 1 and {most:,}", param=name)
    if spec.local_layers and len(spec.local_layers) != spec.num_layers:
        raise InputError("local_layers needs an entry for each layer", param="local_layers")


MAY_BE_ZERO = (
    *("launch_s", "library_s", "node_s", "library_node_s", "attention_launches"),
    *("host_s", "host_row_s", "host_token_s", "gemm_rows", "attention_positions"),
)
"""Numbers of `Hardware` that divide nothing."""


def check_hardware(hardware: Hardware) -> None:
    """`InputError` for a machine that no arithmetic survives."""
    for field in dataclasses.fields(Hardware):
        number = getattr(hardware, field.name)
        if isinstance(number, str):
            continue
        enough = number >= 0 if field.name in MAY_BE_ZERO else number > 0
        if not enough or math.isinf(number):
            raise InputError(f"hardware.{field.name} cannot be {number}", param="hardware")
