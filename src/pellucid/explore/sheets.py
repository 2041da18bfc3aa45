"""Data sheets of machines: what their makers say that they can do at best.

Figures are for dense matrices with sums in float32: sheets like to print the double of it, for
matrices half of which are zeros, and GeForce cards multiply twice as fast with sums in float16.
Apple states the bandwidth of a chip and hardly ever its arithmetic; there it is counted from the
GPU's cores, of 128 multiply-adds a cycle each, and its reported clock.
"""

from __future__ import annotations

from typing import Literal, NamedTuple


class Peak(NamedTuple):
    """What one data sheet says. Rates per second."""

    title: str
    device: Literal["cuda", "cpu"]
    """How work starts: launched on a GPU (of any maker), or called on a CPU."""
    flop_s_32: float
    flop_s_16: float
    flop_s_8: float
    """As of 16 bits where the chip has no 8-bit floating-point products."""
    bytes_s: float
    source: str


def gpu(
    title: str, tera_32: float, tera_16: float, tera_8: float | None, giga: float, source: str
) -> Peak:
    """In TFLOP/s and GB/s, as sheets print them; `tera_8` None: no 8-bit products."""
    tera_8 = tera_8 or tera_16
    return Peak(title, "cuda", tera_32 * 1e12, tera_16 * 1e12, tera_8 * 1e12, giga * 1e9, source)


def apple(chip: str, cores: int, clock_ghz: float, giga: float) -> Peak:
    """An M chip, by the cores and clock of its GPU. Half precision is no faster than single."""
    tera = round(cores * 128 * 2 * clock_ghz / 1e3, 1)
    return gpu(f"Apple {chip}, {cores} GPU cores", tera, tera, None, giga, APPLE)


ADA = "Ada white paper"
APPLE = "Apple's specifications; FLOP/s by cores and clock"
AMPERE = "Ampere GA102 white paper"
BLACKWELL = "Blackwell white paper"
TWICE = "specifications; 16 bits as twice, 8 bits as four times the 32-bit rate, as in its family"

# fmt: off
PEAKS: dict[str, Peak] = {
    "h100": gpu("NVIDIA H100 SXM", 67, 989, 1979, 3350, "H100 data sheet"),
    "h100-pcie": gpu("NVIDIA H100 PCIe", 51, 756, 1513, 2000, "H100 data sheet"),
    "h100-nvl": gpu("NVIDIA H100 NVL", 60, 835, 1671, 3900, "H100 data sheet"),
    "h200": gpu("NVIDIA H200 SXM", 67, 989, 1979, 4800, "H200 data sheet"),
    "gh200": gpu("NVIDIA GH200 96GB", 67, 989, 1979, 4000, "GH200 data sheet"),
    "gh200-144": gpu("NVIDIA GH200 144GB", 67, 989, 1979, 4900, "GH200 data sheet"),
    "b200": gpu("NVIDIA B200", 75, 2250, 4500, 8000, "HGX B200 data sheet"),
    "gb200": gpu("NVIDIA GB200, one GPU", 80, 2500, 5000, 8000, "GB200 NVL72 data sheet"),
    "a100-40": gpu("NVIDIA A100 40GB", 19.5, 312, None, 1555, "A100 data sheet"),
    "a100-80": gpu("NVIDIA A100 80GB SXM", 19.5, 312, None, 2039, "A100 data sheet"),
    "v100": gpu("NVIDIA V100 SXM2", 15.7, 125, None, 900, "V100 data sheet"),
    "v100-pcie": gpu("NVIDIA V100 PCIe", 14, 112, None, 900, "V100 data sheet"),
    "t4": gpu("NVIDIA T4", 8.1, 65, None, 320, "T4 product page"),
    "a10": gpu("NVIDIA A10", 31.2, 125, None, 600, "A10 data sheet"),
    "a10g": gpu("NVIDIA A10G", 35, 70, None, 600, "A10G data sheet"),
    "a30": gpu("NVIDIA A30", 10.3, 165, None, 933, "A30 data sheet"),
    "a40": gpu("NVIDIA A40", 37.4, 149.7, None, 696, "A40 data sheet"),
    "l4": gpu("NVIDIA L4", 30.3, 121, 242, 300, "L4 data sheet"),
    "l40s": gpu("NVIDIA L40S", 91.6, 362, 733, 864, "L40S data sheet"),
    "a6000": gpu("NVIDIA RTX A6000", 38.7, 154.8, None, 768, AMPERE),
    "rtx6000-ada": gpu("NVIDIA RTX 6000 Ada", 91.1, 364.2, 728.5, 960, "RTX 6000 Ada data sheet"),
    "rtx3060": gpu("NVIDIA RTX 3060 12GB", 12.7, 25.5, None, 360, TWICE),
    "rtx3080": gpu("NVIDIA RTX 3080 10GB", 29.8, 59.5, None, 760, AMPERE),
    "rtx3090": gpu("NVIDIA RTX 3090", 35.6, 71, None, 936, AMPERE),
    "rtx4060": gpu("NVIDIA RTX 4060", 15.1, 30.2, 60.5, 272, TWICE),
    "rtx4070": gpu("NVIDIA RTX 4070", 29.1, 58.3, 116.6, 504, TWICE),
    "rtx4080": gpu("NVIDIA RTX 4080", 48.7, 97.5, 194.9, 717, ADA),
    "rtx4090": gpu("NVIDIA RTX 4090", 82.6, 165.2, 330.3, 1008, ADA),
    "rtx5070": gpu("NVIDIA RTX 5070", 30.9, 61.7, 123.5, 672, BLACKWELL),
    "rtx5080": gpu("NVIDIA RTX 5080", 56.3, 112.6, 225.1, 960, BLACKWELL),
    "rtx5090": gpu("NVIDIA RTX 5090", 104.8, 209.5, 419, 1792, BLACKWELL),
    "mi300x": gpu("AMD MI300X", 163.4, 1307.4, 2614.9, 5300, "MI300X data sheet"),
    "mi325x": gpu("AMD MI325X", 163.4, 1307.4, 2614.9, 6000, "MI325X data sheet"),
    "rx7900xtx": gpu("AMD RX 7900 XTX", 61.4, 122.8, None, 960, "RX 7900 XTX product page"),
    "m1": apple("M1", 8, 1.278, 68.2),
    "m1-pro": apple("M1 Pro", 16, 1.296, 200),
    "m1-max": apple("M1 Max", 32, 1.296, 400),
    "m1-ultra": apple("M1 Ultra", 64, 1.296, 800),
    "m2": apple("M2", 10, 1.398, 100),
    "m2-pro": apple("M2 Pro", 19, 1.398, 200),
    "m2-max": apple("M2 Max", 38, 1.398, 400),
    "m2-ultra": apple("M2 Ultra", 76, 1.398, 800),
    "m3": apple("M3", 10, 1.398, 100),
    "m3-pro": apple("M3 Pro", 18, 1.398, 150),
    "m3-max-30": apple("M3 Max", 30, 1.398, 300),
    "m3-max": apple("M3 Max", 40, 1.398, 400),
    "m3-ultra": apple("M3 Ultra", 80, 1.398, 819),
    "m4": apple("M4", 10, 1.47, 120),
    "m4-pro": apple("M4 Pro", 20, 1.578, 273),
    "m4-max-32": apple("M4 Max", 32, 1.578, 410),
    "m4-max": apple("M4 Max", 40, 1.578, 546),
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
