#!/usr/bin/env python
"""Write the README's figures from bench/results, so that none is typed by hand.

    python bench/readme.py

`tests/unit/test_readme.py` fails when the README says anything else than the recorded results.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "bench" / "results"
BEGIN, END = "<!-- made by: python bench/readme.py -->", "<!-- end of figures -->"


def load(name: str) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((RESULTS / name).read_text(encoding="utf-8"))
    return record


def figures() -> str:
    """The section's text."""
    peers, cache = load("cpu-peers.json"), load("kv-cache.json")
    return f"""
SmolLM2-135M (Q4_1) with default settings, medians of {peers["settings"]["repeats"]} interleaved
rounds, smallest to largest in brackets; `bench/cpu_peers.py`,
[`cpu-peers.json`](bench/results/cpu-peers.json):

{peers_table(peers)}

Memory read at {peers["probes"]["read_gb_s"]["median"]:.1f} GB/s in the same run, which would allow
{peers["decode_limit_tok_s"]["pellucid"]:.0f} tokens/s of decoding. llama.cpp multiplies activations
rounded to 8 bits, which takes fewer instructions; ours stay fp32, and the tokens are those of
transformers.

What the KV cache buys: milliseconds per new token behind a sequence of that length, fp32, medians;
`bench/kv_cache.py`, [`kv-cache.json`](bench/results/kv-cache.json):

{cache_table(cache)}

{exponents(cache)}
"""


def peers_table(peers: dict[str, Any]) -> str:
    names = ("pellucid", "llama.cpp", "transformers")
    lines = ["| | " + " | ".join(names) + " fp32 |", "|---|---|---|---|"]
    for label, key in (("decode, tokens/s", "decode"), ("prefill of 512, tokens/s", "prefill")):
        lines.append(f"| {label} | " + " | ".join(span(peers[key][n], 0) for n in names) + " |")
    start = span(peers["start"]["first_output_s"], 1)
    return "\n".join([*lines, f"| start to first token, file fetched, s | {start} | | |"])


def span(sample: dict[str, Any], digits: int) -> str:
    low, high = (f"{sample[end]:.{digits}f}" for end in ("min", "max"))
    return f"{sample['median']:.{digits}f} ({low}–{high})"


def cache_table(cache: dict[str, Any]) -> str:
    lines = ["| length | attention, cache on | rest, on | attention, off | rest, off |"]
    lines.append("|---|---|---|---|---|")
    rows = by_length(cache)
    for length, modes in rows.items():
        cells = [f"{modes[m][part]:.1f}" for m in ("on", "off") for part in ("attention", "rest")]
        lines.append(f"| {length:,} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def by_length(cache: dict[str, Any]) -> dict[int, dict[str, Any]]:
    rows: dict[int, dict[str, Any]] = {}
    for row in cache["rows"]:
        rows.setdefault(row["length"], {})[row["kv_cache"]] = row
    return rows


def exponents(cache: dict[str, Any]) -> str:
    fit, rows = cache["exponents"], by_length(cache)
    last, before = sorted(rows)[-1], sorted(rows)[-2]
    slope = {
        mode: math.log(rows[last][mode]["attention"] / rows[before][mode]["attention"])
        / math.log(last / before)
        for mode in ("on", "off")
    }
    return (
        "Fitted over the longer half, time ≈ length^b: with the cache, "
        f"b = {fit['on']['attention']:.2f} for attention and {fit['on']['rest']:.2f} for the rest; "
        f"without, {fit['off']['attention']:.2f} and {fit['off']['rest']:.2f}. By the book: 1 and "
        "0, 2 and 1. Part of attention's cost at these lengths is per call and per key, not per "
        f"pair; between the two longest its exponent is {slope['on']:.2f} with the cache and "
        f"{slope['off']:.2f} without."
    )


def updated(readme: str) -> str:
    """The README with the figures as they are recorded."""
    head, rest = readme.split(BEGIN)
    return head + BEGIN + "\n" + figures() + "\n" + END + rest.split(END)[1]


if __name__ == "__main__":
    path = ROOT / "README.md"
    path.write_text(updated(path.read_text(encoding="utf-8")), encoding="utf-8")
