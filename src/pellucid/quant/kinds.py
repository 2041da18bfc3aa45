"""What a weight may be stored as, in numbers: no torch, so that a file can be judged without it.

Plain kinds hold one number per element. Block kinds hold runs of 32 or 256 weights that share a
scale; how a block is laid out and expanded is in `blocks.py`. Names are those of GGUF.
"""

from __future__ import annotations

PLAIN_BYTES = {"F32": 4, "F16": 2, "BF16": 2}
"""Bytes of an element, by kind."""

BLOCK_SHAPES: dict[str, tuple[int, int]] = {
    "Q4_0": (32, 18),
    "Q4_1": (32, 20),
    "Q5_0": (32, 22),
    "Q5_1": (32, 24),
    "Q8_0": (32, 34),
    "Q4_K": (256, 144),
    "Q5_K": (256, 176),
    "Q6_K": (256, 210),
}
"""Weights in a block and bytes of a block, by kind."""

SUPPORTED = (*PLAIN_BYTES, *BLOCK_SHAPES)


def bytes_per_element(kind: str) -> float:
    """Bytes that one weight of this kind takes; KeyError for a kind that is not read."""
    if kind in PLAIN_BYTES:
        return PLAIN_BYTES[kind]
    size, nbytes = BLOCK_SHAPES[kind]
    return nbytes / size
