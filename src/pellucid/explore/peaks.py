"""Machines by name: what their makers say they can do at best.

Figures are those of data sheets, for dense matrices with sums in float32 (sheets like to print the
double of it, for matrices half of which are zeros). Chips throttle and kernels have seams, so that
nothing reaches these: times modelled from them are the least that the machine could take, and their
band says that twice as long would be no surprise. What starting a kernel costs stands in no data
sheet; the values here are orders of magnitude. `pellucid calibrate` replaces all of it by
measurement, and writes a file that is read here too.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, NamedTuple

import msgspec

from pellucid.errors import InputError
from pellucid.explore.roofline import Hardware

CALIBRATION_SCHEMA = 3
"""Of the file that `pellucid calibrate` writes; 2 since kernels queue up, and what starting them
costs has another meaning."""
SLOWEST = 2.0
"""How many times the least that a stage could take a real one is expected to take at most."""


class Peak(NamedTuple):
    """What one data sheet says. Rates per second."""

    title: str
    device: Literal["cuda", "cpu"]
    flop_s_32: float
    flop_s_16: float
    flop_s_8: float
    """As of 16 bits where the chip has no 8-bit floating-point products."""
    bytes_s: float
    source: str


# fmt: off
PEAKS: dict[str, Peak] = {
    "h100": Peak(
        "NVIDIA H100 SXM", "cuda", 67e12, 989e12, 1979e12, 3.35e12, "H100 data sheet"),
    "h100-pcie": Peak(
        "NVIDIA H100 PCIe", "cuda", 51e12, 756e12, 1513e12, 2.0e12, "H100 data sheet"),
    "h200": Peak(
        "NVIDIA H200 SXM", "cuda", 67e12, 989e12, 1979e12, 4.8e12, "H200 data sheet"),
    "b200": Peak(
        "NVIDIA B200", "cuda", 75e12, 2250e12, 4500e12, 8.0e12, "HGX B200 data sheet"),
    "a100-40": Peak(
        "NVIDIA A100 40GB", "cuda", 19.5e12, 312e12, 312e12, 1.555e12, "A100 data sheet"),
    "a100-80": Peak(
        "NVIDIA A100 80GB SXM", "cuda", 19.5e12, 312e12, 312e12, 2.039e12, "A100 data sheet"),
    "l4": Peak(
        "NVIDIA L4", "cuda", 30.3e12, 121e12, 242e12, 300e9, "L4 data sheet"),
    "l40s": Peak(
        "NVIDIA L40S", "cuda", 91.6e12, 362e12, 733e12, 864e9, "L40S data sheet"),
    "rtx3090": Peak(
        "NVIDIA RTX 3090", "cuda", 35.6e12, 71e12, 71e12, 936e9, "Ampere GA102 white paper"),
    "rtx4090": Peak(
        "NVIDIA RTX 4090", "cuda", 82.6e12, 165.2e12, 330.3e12, 1.008e12, "Ada white paper"),
    "rtx5090": Peak(
        "NVIDIA RTX 5090", "cuda", 104.8e12, 209.5e12, 419e12, 1.792e12, "Blackwell white paper"),
    "mi300x": Peak(
        "AMD MI300X", "cuda", 163.4e12, 1307.4e12, 2614.9e12, 5.3e12, "MI300X data sheet"),
    "cpu-avx2": Peak(
        "2 cores at 3 GHz, AVX2, one channel DDR4-2666", "cpu", 192e9, 192e9, 192e9, 21.3e9,
        "generic: two 8-wide multiply-adds a cycle and core"),
    "cpu-avx512": Peak(
        "2 cores at 2.5 GHz, AVX-512 BF16, 40 GB/s", "cpu", 320e9, 640e9, 640e9, 40e9,
        "generic: two 16-wide multiply-adds a cycle and core, twice that in bf16"),
    "cpu-desktop": Peak(
        "8 cores at 4 GHz, AVX2, two channels DDR5-4800", "cpu", 1024e9, 1024e9, 1024e9, 76.8e9,
        "generic: two 8-wide multiply-adds a cycle and core"),
}
# fmt: on


class Starts(NamedTuple):
    """Seconds that starting work costs, in orders of magnitude."""

    launch_s: float
    library_s: float
    node_s: float
    host_s: float


STARTS = {"cuda": Starts(5e-6, 5e-6, 1e-6, 1e-4), "cpu": Starts(1e-5, 1e-5, 1e-5, 1e-4)}


def find_hardware(name: str, activation_bytes: float = 2.0) -> Hardware:
    """A machine by its name in `PEAKS`, or of a file that `pellucid calibrate` wrote.

    activation_bytes: size of the numbers that are multiplied, which decides the matrix rate.
    """
    if name in PEAKS:
        return spec_hardware(PEAKS[name], activation_bytes)
    path = Path(name).expanduser()
    if not path.exists():
        raise InputError(
            f"hardware {name!r} is not known; known are {', '.join(PEAKS)}, and files that "
            "pellucid calibrate wrote",
            param="hardware",
        )
    try:
        file = msgspec.json.decode(path.read_bytes(), type=CalibrationFile)
        if file.schema != CALIBRATION_SCHEMA:
            raise msgspec.ValidationError(f"schema {file.schema} instead of {CALIBRATION_SCHEMA}")
        return file.hardware
    except (OSError, msgspec.DecodeError) as error:
        raise InputError(
            f"{name}: no file of pellucid calibrate ({error}); make one with pellucid calibrate "
            "--run FILE --json FILE",
            param="hardware",
        ) from error


class CalibrationFile(msgspec.Struct):
    """Of such a file, what matters here."""

    schema: int
    hardware: Hardware


def spec_hardware(peak: Peak, activation_bytes: float) -> Hardware:
    """The machine of a data sheet."""
    starts = STARTS[peak.device]
    rates = {4: peak.flop_s_32, 2: peak.flop_s_16, 1: peak.flop_s_8}
    return Hardware(
        name=peak.title,
        device=peak.device,
        flop_s=rates.get(int(activation_bytes), peak.flop_s_16),
        bytes_s=peak.bytes_s,
        slowest=SLOWEST,
        launch_s=starts.launch_s,
        library_s=starts.library_s,
        node_s=starts.node_s,
        library_node_s=starts.node_s,
        host_s=starts.host_s,
    )
