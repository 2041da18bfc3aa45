"""`--hardware`: this machine, one by its data sheet, or one of a file of `pellucid calibrate`."""

from __future__ import annotations

from typing import Any, NamedTuple

from pellucid.explore.hardware import measure_here
from pellucid.explore.peaks import find_hardware, hardware_here
from pellucid.explore.roofline import Hardware
from pellucid.explore.sheets import PEAKS
from pellucid.explore.workload import Choices, settled
from pellucid.model.spec import ModelSpec

HERE = "here"
LIST = "list"
HELP = (
    "a machine's name such as h100, rtx4090 or m4-max (list shows all), a file of pellucid "
    "calibrate, or here: this machine, measured for a moment"
)


class Chosen(NamedTuple):
    """A machine, the switches as they come out on it, and how far to trust what is modelled."""

    hardware: Hardware
    choices: Choices
    provenance: str


def choose(name: str, spec: ModelSpec, sizes: dict[str, Any], given: dict[str, Any]) -> Chosen:
    """The machine called `name`, for a model.

    `given` are fields of `Choices` that the user set, `sizes` those that the model's file says.
    """
    if name == HERE:
        return measured(spec, sizes | given)
    choices = Choices(**sizes | given)
    hardware = find_hardware(name, choices.activation_bytes)
    return Chosen(hardware, settled(choices, hardware.device), provenance(hardware))


def measured(spec: ModelSpec, given: dict[str, Any]) -> Chosen:
    """This machine; it computes in what the engine takes here, unless that is given."""
    here = measure_here(spec)
    own = dict.fromkeys(("activation_bytes", "kv_bytes"), float(here.element_bytes))
    rates = f"{here.flop_s / 1e12:.3g} TFLOP/s and {here.bytes_s / 1e9:.3g} GB/s"
    return Chosen(
        hardware_here(here.device, here.name, here.flop_s, here.bytes_s),
        settled(Choices(**own | given), here.device),
        f"modelled from {rates}, measured just now; pellucid calibrate makes it exact",
    )


def provenance(hardware: Hardware) -> str:
    """How far to trust what is modelled for a sheet's machine or a calibrated one."""
    if hardware.kind == "spec":
        return "modelled from data-sheet peaks, not validated here"
    return f"modelled, calibrated, stage times {hardware.fastest:.2f} to {hardware.slowest:.2f} ×"


def table() -> str:
    """All data sheets, a line each."""
    lines = [f"{'name':12}  {'GB/s':>6}  {'16-bit TFLOP/s':>14}  machine"]
    lines += [
        f"{name:12}  {peak.bytes_s / 1e9:>6,.0f}  {peak.flop_s_16 / 1e12:>14,.4g}  {peak.title}"
        for name, peak in PEAKS.items()
    ]
    return "\n".join(lines)
