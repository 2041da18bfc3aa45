"""How long each stage of a step takes on some machine, from shapes alone.

Problem: to say what a step costs without running it: on hardware one does not have, or with an
optimization that is not there.

Idea (Williams et al. 2009): a stage needs so many floating-point operations and moves so many bytes
to and from memory, which `work.py` counts. The machine does at most so many of each per second, and
the slower of the two is what it takes; every kernel that is started adds its own small cost:

    seconds = max(flops / rate, bytes / bandwidth) + launches · cost of one

On a GPU without a graph, kernels queue up: one begins when the one before has ended and the host
has launched it. As long as the host is ahead, launching costs nothing; where it is behind, the
kernel's own work does (`queued`).

How far real kernels stay below the machine's peaks is a handful of efficiencies in `Hardware`: 1
for a data sheet (`peaks.py`), fitted to measurements by `calibrate.py`. The device's wait for the
host is a stage like any other, `host_gap`.

Source: Williams et al. 2009, doi:10.1145/1498765.1498785.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from pellucid.explore.steps import AlikeRows, steps_of
from pellucid.explore.work import Group, Load, Work, groups_of, load_of, load_with
from pellucid.explore.workload import Choices, Workload, settled
from pellucid.model.spec import ModelSpec

Bound = Literal["compute", "bandwidth", "launch", "host"]

MODELLED = (
    *("host_gap", "embed", "norm", "qkv", "kv_write"),
    *("attention", "o_proj", "mlp", "lm_head", "sample"),
)
"""The stages that a budget has; the names are those of `stages.STAGES`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hardware:
    """A machine: its peaks, how much of each is reached, and what starting work costs."""

    name: str
    kind: Literal["spec", "calibrated"] = "spec"
    device: Literal["cuda", "cpu"] = "cuda"
    flop_s: float
    """Peak of matrix arithmetic in the activations' format, per second."""
    bytes_s: float
    """Peak of memory, bytes per second."""
    launch_s: float = 0.0
    """Seconds that the host takes to start one kernel of ours."""
    library_s: float = 0.0
    """The same for a matrix product of a library."""
    node_s: float = 0.0
    """Seconds that a kernel of ours adds where the host need not start it: in a graph, in the queue
    of a GPU, or in a decode step of a CPU, where so little work stays in place."""
    library_node_s: float = 0.0
    """The same for a matrix product of a library, which waits until the kernel before has ended."""
    attention_launches: float = 1.0
    """What a launch of attention costs, in ordinary launches, for each of its `Work.chains`."""
    host_s: float = 0.0
    """Seconds of the host per step: plan, inputs, answers."""
    host_row_s: float = 0.0
    """Further ones per row …"""
    host_token_s: float = 0.0
    """… and per token."""
    eta_gemm: float = 1.0
    """Of `flop_s`, reached by matrix products of many rows."""
    gemm_rows: float = 0.0
    """A product of n rows costs as much as n + gemm_rows: to fill tiles, to unpack weights."""
    eta_gemv: float = 1.0
    """Of `bytes_s`, reached by matrix products of few rows."""
    eta_attention_flops: float = 1.0
    attention_positions: float = 0.0
    """A token that sees n positions costs as much as n + this: tiles reach over the diagonal."""
    eta_attention_bytes: float = 1.0
    eta_reduction: float = 1.0
    """Of `bytes_s`, reached by norms and by sampling."""
    eta_elementwise: float = 1.0
    """Of `bytes_s`, reached by everything else; above 1 where a cache serves."""
    fastest: float = 1.0
    """The band: a stage is expected to take at least this times the modelled time …"""
    slowest: float = 1.0
    """… and at most this."""


class Cost(NamedTuple):
    """What a stage needs and what that takes. Costs add up."""

    flops: float = 0.0
    bytes: float = 0.0
    launches: float = 0.0
    seconds: float = 0.0
    compute_s: float = 0.0
    bandwidth_s: float = 0.0
    launch_s: float = 0.0
    host_s: float = 0.0

    def plus(self, other: Cost) -> Cost:
        return Cost(*map(operator.add, self, other))

    def times(self, count: float) -> Cost:
        return Cost(*(count * part for part in self))

    @property
    def bound(self) -> Bound:
        """What most of the time goes to."""
        parts: dict[Bound, float] = {
            "compute": self.compute_s,
            "bandwidth": self.bandwidth_s,
            "launch": self.launch_s,
            "host": self.host_s,
        }
        return max(parts, key=parts.__getitem__)


@dataclass(frozen=True, slots=True)
class Budget:
    """Where the time of a decode step, or of a batch of prompts, goes."""

    stages: Mapping[str, Cost]
    """By stage name, in the order of `MODELLED`."""
    tokens_per_row: float
    """Tokens that each row gains: 1, or more with accepted drafts."""

    @property
    def seconds(self) -> float:
        return sum(cost.seconds for cost in self.stages.values())

    def share(self, stage: str = "attention") -> float:
        """The part of the time that goes to `stage`, from 0 to 1."""
        return self.stages[stage].seconds / self.seconds


def budget(spec: ModelSpec, workload: Workload, choices: Choices, hardware: Hardware) -> Budget:
    """Flops, bytes and seconds of every stage of `workload`."""
    return priced(load_of(spec, workload, choices, hardware.device), hardware)


def priced(load: Load, hardware: Hardware) -> Budget:
    """What `load` takes on a machine."""
    reached = rates_of(hardware)
    totals: dict[str, Cost] = dict.fromkeys(MODELLED, Cost())
    for group, count in load.groups.items():
        for work, seconds in zip(group.works, group_seconds(group, hardware, reached), strict=True):
            cost = cost_of(work, seconds, reached).times(count)
            totals[work.stage] = totals[work.stage].plus(cost)
    gap = host_gap(load, hardware, sum(cost.seconds for cost in totals.values()))
    totals["host_gap"] = Cost(seconds=gap, host_s=gap)
    return Budget(totals, load.tokens_per_row)


def stage_seconds(load: Load, hardware: Hardware) -> dict[str, float]:
    """The seconds of `priced` alone: a fit asks for them some thousand times."""
    reached = rates_of(hardware)
    totals = dict.fromkeys(MODELLED, 0.0)
    for group, count in load.groups.items():
        for work, seconds in zip(group.works, group_seconds(group, hardware, reached), strict=True):
            totals[work.stage] += count * seconds
    totals["host_gap"] = host_gap(load, hardware, sum(totals.values()))
    return totals


class Prices:
    """The seconds of many workloads of one model, setting and machine.

    The same as `stage_seconds` of each, but a step that occurs in several of them is priced once:
    the first pieces of a prompt of 8,192 tokens are those of one of 4,096.
    """

    def __init__(self, spec: ModelSpec, choices: Choices, hardware: Hardware) -> None:
        self._spec, self._hardware = spec, hardware
        self._choices = settled(choices, hardware.device)
        self._reached = rates_of(hardware)
        self._steps: dict[tuple[Sequence[AlikeRows], bool], dict[str, float]] = {}

    def seconds(self, workload: Workload) -> dict[str, float]:
        """Of each stage in `MODELLED`."""
        steps, decodes = steps_of(workload, self._choices), workload.phase == "decode"
        totals = dict.fromkeys(MODELLED, 0.0)
        for times, rows in steps:
            for stage, seconds in self._of_step(rows, decodes).items():
                totals[stage] += times * seconds
        load = load_with({}, steps, self._choices, decodes)
        totals["host_gap"] = host_gap(load, self._hardware, sum(totals.values()))
        return totals

    def _of_step(self, rows: Sequence[AlikeRows], decodes: bool) -> dict[str, float]:
        found = self._steps.get((rows, decodes))
        if found is None:
            found = self._steps[rows, decodes] = {}
            groups = groups_of(self._spec, rows, self._choices, self._hardware.device, decodes)
            for count, group in groups:
                laps = group_seconds(group, self._hardware, self._reached)
                for work, seconds in zip(group.works, laps, strict=True):
                    found[work.stage] = found.get(work.stage, 0.0) + count * seconds
        return found


def host_gap(load: Load, hardware: Hardware, device_s: float) -> float:
    """Seconds that the device waits for the host."""
    host_s = load.num_plans * hardware.host_s
    host_s += load.num_rows * hardware.host_row_s + load.num_tokens * hardware.host_token_s
    return max(0.0, host_s - device_s) if load.hides_host else host_s


# Seconds


def group_seconds(group: Group, hardware: Hardware, reached: Mapping[str, Rates]) -> list[float]:
    """What each of these kernels takes, one behind the other."""
    works, launching = group
    launch_s, library_s = hardware.launch_s, hardware.library_s
    node_s, library_node_s = hardware.node_s, hardware.library_node_s
    roofs, nodes, host = [], [], []
    for work in works:
        weight = hardware.attention_launches * work.chains if work.kind == "attention" else 1.0
        launches, calls = weight * work.launches, work.calls
        roofs.append(max(roof_seconds(work, reached)))
        nodes.append(launches * node_s + calls * library_node_s)
        host.append(launches * launch_s + calls * library_s)
    match launching:
        case "ready":
            return list(map(operator.add, roofs, nodes))
        case "at once":
            return list(map(operator.add, roofs, host))
        case "behind":
            return queued(list(map(operator.add, roofs, nodes)), host)


def queued(device_s: Sequence[float], host_s: Sequence[float]) -> list[float]:
    """Seconds from the end of each kernel to the end of the next, once the queue has filled.

    device_s: what each kernel takes; host_s: what launching it takes. The kernels are gone through
    twice and the second round counts. Launches of 5 µs and kernels of 2, 2 and 20 µs:

        launched at   5  10  15   20  25  30     the host is ahead: it waits for nobody
        ended at      7  12  35   37  39  59     the second round takes 2, 2 and 20 µs
    """
    issued = ended = 0.0
    laps: list[float] = []
    for _ in range(2):
        laps.clear()
        for work_s, launch_s in zip(device_s, host_s, strict=True):
            issued += launch_s
            end = max(ended, issued) + work_s
            laps.append(end - ended)
            ended = end
    return laps


def cost_of(work: Work, seconds: float, reached: Mapping[str, Rates]) -> Cost:
    """The cost of `work`, which takes `seconds`; what its roofs do not explain is launching."""
    compute, bandwidth = roof_seconds(work, reached)
    return Cost(
        flops=work.flops,
        bytes=work.bytes,
        launches=work.launches + work.calls,
        seconds=seconds,
        compute_s=compute,
        bandwidth_s=bandwidth,
        launch_s=seconds - max(compute, bandwidth),
    )


def roof_seconds(work: Work, reached: Mapping[str, Rates]) -> tuple[float, float]:
    """What the arithmetic of `work` would take alone, and what its traffic would."""
    flop_s, bytes_s, padding = reached[work.kind]
    return (work.flops + padding * work.pad_flops) / flop_s, work.bytes / bytes_s


class Rates(NamedTuple):
    """What work of one kind reaches on a machine, per second, and how far it is padded."""

    flop_s: float
    bytes_s: float
    padding: float


def rates_of(hardware: Hardware) -> dict[str, Rates]:
    """By kind of work."""
    h = hardware
    return {
        "matrix": Rates(h.flop_s * h.eta_gemm, h.bytes_s * h.eta_gemv, h.gemm_rows),
        "attention": Rates(
            h.flop_s * h.eta_attention_flops,
            h.bytes_s * h.eta_attention_bytes,
            h.attention_positions,
        ),
        "reduction": Rates(h.flop_s, h.bytes_s * h.eta_reduction, 0.0),
        "elementwise": Rates(h.flop_s, h.bytes_s * h.eta_elementwise, 0.0),
    }
