"""Machines by name, as the model of costs needs them.

From a data sheet (`sheets.py`), from what this machine reaches in two seconds of measuring, or from
a file of `pellucid calibrate`. Chips throttle and kernels have seams, so that nothing reaches its
sheet: times modelled from one are the least that the machine could take, and their band says that
twice as long would be no surprise. What starting a kernel costs stands in no data sheet; the values
here are orders of magnitude. `pellucid calibrate` replaces all of it by measurement.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import msgspec

from pellucid.errors import InputError, suggestion
from pellucid.explore.roofline import Hardware
from pellucid.explore.sheets import PEAKS, Peak

CALIBRATION_SCHEMA = 4
"""Of the file that `pellucid calibrate` writes; 4 since it says what it models of each cell."""
SLOWEST = 2.0
"""How many times the least that a stage could take a real one is expected to take at most."""


class Starts(NamedTuple):
    """Seconds that starting work costs, in orders of magnitude."""

    launch_s: float
    library_s: float
    node_s: float
    host_s: float


STARTS = {"cuda": Starts(5e-6, 5e-6, 1e-6, 1e-4), "cpu": Starts(1e-5, 1e-5, 1e-5, 1e-4)}


def find_hardware(name: str, activation_bytes: float = 2.0) -> Hardware:
    """A machine by its name in `PEAKS`, or of a file that `pellucid calibrate` wrote. A name may be
    written as its maker does: `NVIDIA H100`, `RTX 4090`, `M4 Max`.

    activation_bytes: size of the numbers that are multiplied, which decides the matrix rate.
    """
    if sheet := sheet_of(name):
        return spec_hardware(sheet, activation_bytes)
    path = Path(name).expanduser()
    if not path.exists():
        raise InputError(
            f"hardware {name!r} is not known.{suggestion(name, PEAKS)} pellucid model --hardware "
            "list shows the names; a file that pellucid calibrate wrote will do too",
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


def sheet_of(name: str) -> Peak | None:
    """The data sheet of a name; `InputError` if it could be one of several."""
    wanted = _letters(name)
    found = [key for key in PEAKS if _letters(key) == wanted]
    several = [key for key in PEAKS if re.fullmatch(re.escape(wanted) + r"-\d+", key)]
    if not found and several:
        raise InputError(f"hardware {name!r} is one of {', '.join(several)}", param="hardware")
    return PEAKS[found[0]] if found else None


def sheet_of_device(name: str) -> Peak | None:
    """The data sheet of what a driver calls `name`; None if no sheet is that machine's.

    Names that come with other memory or on another board than the sheet's get none: a roof that is
    not this machine's says nothing. Processors have no sheet: theirs are of classes, not of one
    product.
    """
    found = (key for key, pattern in DEVICE_NAMES.items() if re.search(pattern, name))
    key = next(found, None)
    return PEAKS[key] if key else None


DEVICE_NAMES = {
    "h100": r"\bH100 (80GB HBM3|SXM\d?)$",
    "h100-pcie": r"(?i)\bH100 PCIe$",
    "h100-nvl": r"\bH100 NVL$",
    "h200": r"\bH200( SXM)?$",
    "b200": r"\bB200$",
    "gh200": r"\bGH200 480GB$",
    "gh200-144": r"\bGH200 144G HBM3e$",
    "a100-40": r"\bA100\b.*\b40GB$",
    "a100-80": r"\bA100-SXM4-80GB$",
    "v100": r"\bV100-SXM2-(16|32)GB$",
    "v100-pcie": r"\bV100-PCIE-(16|32)GB$",
    "t4": r"\bT4$",
    "a10": r"\bA10$",
    "a10g": r"\bA10G$",
    "a30": r"\bA30$",
    "a40": r"\bA40$",
    "l4": r"\bL4$",
    "l40s": r"\bL40S$",
    "a6000": r"\bRTX A6000$",
    "rtx6000-ada": r"\bRTX 6000 Ada Generation$",
    "rtx3090": r"\bRTX 3090$",
    "rtx4070": r"\bRTX 4070$",
    "rtx4080": r"\bRTX 4080$",
    "rtx4090": r"\bRTX 4090$",
    "rtx5070": r"\bRTX 5070$",
    "rtx5080": r"\bRTX 5080$",
    "rtx5090": r"\bRTX 5090$",
    "mi300x": r"\bMI300X$",
    "mi325x": r"\bMI325X$",
}
"""How drivers call the machines of data sheets."""


def _letters(name: str) -> str:
    """Without what people write or leave out as they like."""
    return re.sub(r"nvidia|geforce|apple|amd|[^a-z0-9]", "", name.lower())


class CalibrationFile(msgspec.Struct):
    """Of such a file, what matters here."""

    schema: int
    hardware: Hardware


def hardware_here(device: str, name: str, flop_s: float, bytes_s: float) -> Hardware:
    """This machine, by what it reached at nothing but multiplying and reading."""
    here = Peak(name, "cuda" if device == "cuda" else "cpu", flop_s, flop_s, flop_s, bytes_s, "")
    return spec_hardware(here, 2.0)


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
