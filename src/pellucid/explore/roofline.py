"""How long each stage of a step takes on some machine, from shapes alone.

Problem: to say what a step costs without running it: on hardware one does not have, or with an
optimization that is not there.

Idea (Williams et al. 2009): a stage needs so many floating-point operations and moves so many bytes
to and from memory, which `work.py` counts. The machine does at most so many of each per second, and
the slower of the two is what it takes; every kernel that is started adds its own small cost:

    seconds = max(flops / rate, bytes / bandwidth) + launches · cost of one

How far real kernels stay below the machine's peaks is a handful of efficiencies in `Hardware`: 1
for a data sheet (`peaks.py`), fitted to measurements by `calibrate.py`. The device's wait for the
host is a stage like any other, `host_gap`.

Source: Williams et al. 2009, doi:10.1145/1498765.1498785.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

from pellucid.explore.work import Choices, Load, Work, Workload, load_of
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
    """Seconds that starting one kernel adds."""
    node_s: float = 0.0
    """The same in a decode step of a graph, or of a CPU, where so little work stays in place."""
    host_s: float = 0.0
    """Seconds of the host per step: plan, inputs, answers."""
    host_row_s: float = 0.0
    """Further ones per row."""
    eta_gemm: float = 1.0
    """Of `flop_s`, reached by matrix products of many rows."""
    gemm_rows: float = 0.0
    """Rows by which a product costs more than it has: to fill tiles, to unpack weights."""
    eta_gemv: float = 1.0
    """Of `bytes_s`, reached by matrix products of few rows."""
    eta_attention_flops: float = 1.0
    attention_positions: float = 0.0
    """Positions by which a token's attention costs more than it sees: tiles on the diagonal."""
    eta_attention_bytes: float = 1.0
    eta_reduction: float = 1.0
    """Of `bytes_s`, reached by norms and by sampling."""
    eta_elementwise: float = 1.0
    """Of `bytes_s`, reached by everything else; above 1 where a cache serves."""
    fastest: float = 1.0
    """A stage may take this times what is computed …"""
    slowest: float = 1.0
    """… up to this: the band."""


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
    launch_s = launch_cost(load, hardware)
    totals: dict[str, Cost] = dict.fromkeys(MODELLED, Cost())
    for work, count in load.works.items():
        cost = cost_of(work, hardware, launch_s).times(count)
        totals[work.stage] = totals[work.stage].plus(cost)
    gap = host_gap(load, hardware, sum(cost.seconds for cost in totals.values()))
    totals["host_gap"] = Cost(seconds=gap, host_s=gap)
    return Budget(totals, load.tokens_per_row)


def stage_seconds(load: Load, hardware: Hardware) -> dict[str, float]:
    """The seconds of `priced` alone: a fit asks for them a thousand times."""
    launch_s = launch_cost(load, hardware)
    totals = dict.fromkeys(MODELLED, 0.0)
    for work, count in load.works.items():
        compute, bandwidth = roof_seconds(work, hardware)
        totals[work.stage] += count * (max(compute, bandwidth) + work.launches * launch_s)
    totals["host_gap"] = host_gap(load, hardware, sum(totals.values()))
    return totals


def launch_cost(load: Load, hardware: Hardware) -> float:
    return hardware.node_s if load.is_ready else hardware.launch_s


def host_gap(load: Load, hardware: Hardware, device_s: float) -> float:
    """Seconds that the device waits for the host."""
    host_s = load.num_steps * hardware.host_s + load.num_rows * hardware.host_row_s
    return max(0.0, host_s - device_s) if load.overlaps else host_s


# Seconds


def cost_of(work: Work, hardware: Hardware, launch_s: float) -> Cost:
    """What `work` takes; launch_s: seconds for each launch."""
    compute, bandwidth = roof_seconds(work, hardware)
    launch = work.launches * launch_s
    return Cost(
        flops=work.flops,
        bytes=work.bytes,
        launches=work.launches,
        seconds=max(compute, bandwidth) + launch,
        compute_s=compute,
        bandwidth_s=bandwidth,
        launch_s=launch,
    )


def roof_seconds(work: Work, hardware: Hardware) -> tuple[float, float]:
    """What the arithmetic of `work` would take alone, and what its traffic would."""
    eta_flops, eta_bytes, padding = efficiencies(work.kind, hardware)
    flops = work.flops + padding * work.pad_flops
    return flops / (hardware.flop_s * eta_flops), work.bytes / (hardware.bytes_s * eta_bytes)


def efficiencies(kind: str, hardware: Hardware) -> tuple[float, float, float]:
    """Parts of the peaks that work of this kind reaches, and how far it is padded."""
    match kind:
        case "matrix":
            return hardware.eta_gemm, hardware.eta_gemv, hardware.gemm_rows
        case "attention":
            positions = hardware.attention_positions
            return hardware.eta_attention_flops, hardware.eta_attention_bytes, positions
        case "reduction":
            return 1.0, hardware.eta_reduction, 0.0
    return 1.0, hardware.eta_elementwise, 0.0
