"""The switchboard: one row per optimization.

This table is the single list of what can be switched. The command line's flags, `pellucid
features`, the parity tests, the ablation bench and the README's table read it; an optimization
appears in all of them by adding one row. It holds strings only and imports no implementation.

Exactness says what a switch may change:

    bit           the same bits
    token         the same greedy tokens in fp32; in bf16 only near-ties may flip
    distribution  the same sampling law, tested statistically
    lossy         bounded and measured, figures with the switch
"""

from __future__ import annotations

from typing import Literal, NamedTuple

Exactness = Literal["bit", "token", "distribution", "lossy"]


class Feature(NamedTuple):
    key: str
    """Name of the switch and of its `EngineConfig` field."""
    choices: tuple[str, ...]
    """Values worth comparing, as text; for a number, examples."""
    default: str
    off: str
    """The value that means: without this optimization."""
    exactness: Exactness
    live: bool
    """Whether it can change while the engine runs; otherwise it needs a reload."""
    conflicts: tuple[str, ...]
    """`key=value` of other switches that it does not work with."""
    home: str
    """The file to read."""
    about: str
    paper: str


FEATURES: tuple[Feature, ...] = (
    Feature(
        key="kv_cache",
        choices=("on", "off"),
        default="on",
        off="off",
        exactness="token",
        live=False,
        conflicts=(),
        home="scheduler.py",
        about=(
            "Keep the keys and values of all earlier tokens, so that a new token costs one row of "
            "work instead of the whole prefix again. Off forgets them after every token."
        ),
        paper="Pope et al. 2022, arXiv:2211.05102",
    ),
    Feature(
        key="attention",
        choices=("flash", "sdpa", "naive"),
        default="auto",
        off="naive",
        exactness="token",
        live=False,
        conflicts=(),
        home="attention/flash.py",
        about=(
            "Compute attention in tiles with a running softmax instead of writing the n×n score "
            "matrix to memory: by our kernel that reads the pages in place (flash) or torch's "
            "(sdpa). Off is the formula as it stands in the textbook."
        ),
        paper="Dao et al. 2022, arXiv:2205.14135",
    ),
    Feature(
        key="batching",
        choices=("continuous", "dynamic", "static"),
        default="continuous",
        off="static",
        exactness="token",
        live=False,
        conflicts=(),
        home="scheduler.py",
        about=(
            "Let a waiting request join at the next step. Dynamic lets new ones in only when the "
            "whole running batch has ended, static only when the next batch is full as well or "
            "nothing more is expected."
        ),
        paper="Yu et al. 2022 (Orca), OSDI",
    ),
    Feature(
        key="chunked_prefill",
        choices=("512", "64", "7", "1", "0"),
        default="512",
        off="0",
        exactness="token",
        live=False,
        conflicts=(),
        home="scheduler.py",
        about=(
            "Compute a long prompt in pieces of so many tokens a step, so that the answers already "
            "running do not wait for it. Off computes every prompt in one step."
        ),
        paper="Agrawal et al. 2023 (Sarathi), arXiv:2308.16369",
    ),
    Feature(
        key="fused_kernels",
        choices=("on", "off"),
        default="auto",
        off="off",
        exactness="token",
        live=False,
        conflicts=(),
        home="kernels/ops.py",
        about=(
            "Do each small step between the matrices (add + norm; norm, rotation and KV write; "
            "activation · up) in one call instead of five to ten tensor operations."
        ),
        paper="Ivanov et al. 2021, arXiv:2007.00072",
    ),
    Feature(
        key="weights",
        choices=("packed", "dense"),
        default="auto",
        off="dense",
        exactness="token",
        live=False,
        conflicts=(),
        home="quant/packed.py",
        about=(
            "Multiply by 4- and 8-bit blocks as they lie in a GGUF file: a decode step reads each "
            "weight once, and reads seven times fewer bytes than in fp32. Off expands them on load."
        ),
        paper="Frantar et al. 2022 (GPTQ), arXiv:2210.17323",
    ),
)


def by_key(key: str) -> Feature:
    """The row of `key`; KeyError if there is none."""
    for feature in FEATURES:
        if feature.key == key:
            return feature
    raise KeyError(key)


def markdown_table() -> str:
    """The switchboard as the README shows it."""
    lines = [
        "| switch | choices | off | exactness | home | what it does |",
        "|---|---|---|---|---|---|",
    ]
    for f in FEATURES:
        choices = ", ".join(f"**{c}**" if c == f.default else c for c in f.choices)
        cells = (f"`{f.key}`", choices, f.off, f.exactness, f"`{f.home}`", f"{f.about} ({f.paper})")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)
