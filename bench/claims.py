"""What is often said about inference, held against what was measured here: docs/claims.md.

    pellucid measure --phases prefill --lengths 256,512,1024,2048 --blocks 3 \\
        --attention naive --fused-kernels off --weights dense --chunked-prefill 0 \\
        --json bench/results/prefill-plain.json
    pellucid measure --phases prefill --lengths 256,512,1024,2048 --blocks 3 \\
        --attention flash --fused-kernels off --weights dense --chunked-prefill 0 \\
        --json bench/results/prefill-flash.json
    pellucid ablate --order climb --num-prompts 8 --prompt-len 128 --output-len 32 --limit-s 4 \\
        --json bench/results/climb-cpu.json
    python bench/pages.py

Each claim gets a verdict (holds, holds in part, does not hold) by a rule that is written here, next
to the figures it follows from. `tests/unit/test_pages.py` fails when the page says anything else
than the recorded results.
"""

from __future__ import annotations

import json
import math
import statistics
from pathlib import Path
from typing import Any, NamedTuple

from pellucid.explore import runfile
from pellucid.explore.answer import machine

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "bench" / "results"
PAGE = ROOT / "docs" / "claims.md"


class Claim(NamedTuple):
    title: str
    verdict: str
    figures: list[str]
    sources: list[str]


def load(name: str) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((RESULTS / name).read_text(encoding="utf-8"))
    return record


def medians(run: dict[str, Any], stage: str = "") -> dict[int, float]:
    """Length → milliseconds of a stage, or of all of it."""
    return {
        cell["length"]: statistics.median(cell["stages_ns"][stage] if stage else cell["wall_ns"])
        / 1e6
        for cell in run["cells"]
    }


def slope(first: float, second: float, lengths: tuple[int, int]) -> float:
    """The exponent of growth between two lengths."""
    return math.log(second / first) / math.log(lengths[1] / lengths[0])


def ninety_percent() -> Claim:
    run = load("prefill-plain.json")
    shares = {
        cell["length"]: statistics.median(runfile.shares(cell, "attention"))
        for cell in run["cells"]
    }
    longest = max(shares)
    # share / (1 - share) of a prompt grows with the length: attention is n², the rest n.
    reached = longest * (0.9 / 0.1) / (shares[longest] / (1 - shares[longest]))
    verdict = "holds" if shares[longest] >= 0.9 else "does not hold at the lengths measured"
    row = ", ".join(f"{share:.0%} at {length:,}" for length, share in sorted(shares.items()))
    return Claim(
        "At long lengths attention takes 90 % of an unoptimized forward pass",
        verdict,
        [
            f"{run['model']['name']} on {machine(run)}, a whole prompt, everything off: attention "
            f"takes {row} tokens.",
            f"If attention goes on growing with the square and the rest with the length, 90 % is "
            f"reached at about {round(reached, -3):,.0f} tokens.",
        ],
        ["prefill-plain.json"],
    )


def flash() -> Claim:
    plain, tiled, gpu = (
        load("prefill-plain.json"),
        load("prefill-flash.json"),
        load("gpu-h100.json"),
    )
    before, after = medians(plain, "attention"), medians(tiled, "attention")
    walls = medians(plain), medians(tiled)
    longest, shorter = sorted(before)[-1], sorted(before)[-2]
    memory = {
        kind: [gpu["samples"][f"attn_memory_{kind}_{n}_mib"][0] for n in (4096, 8192)]
        for kind in ("naive", "flash")
    }
    memory_slope = slope(memory["naive"][0], memory["naive"][1], (4096, 8192))
    time_slope = slope(after[shorter], after[longest], (shorter, longest))
    linear = memory_slope > 1.8 and memory["flash"][1] < memory["naive"][1] / 100
    faster = before[longest] / after[longest]
    verdict = "holds" if linear and faster > 1 else "holds in part" if linear or faster > 1 else ""
    return Claim(
        "Flash attention makes attention faster, and its memory grows with n instead of n²",
        verdict or "does not hold",
        [
            f"Time, {plain['model']['name']} on {machine(plain)}, a prompt of {longest:,} tokens: "
            f"attention {before[longest]:,.0f} ms against {after[longest]:,.0f} ms, "
            f"{faster:.1f} times as fast; the whole prompt "
            f"{walls[0][longest] / walls[1][longest]:.1f} times.",
            f"Its work is still n²: from {shorter:,} to {longest:,} tokens its time grows with "
            f"n^{time_slope:.2f}.",
            f"Memory beyond operands, one layer with 32 heads on an {gpu['environment']['gpu']}: "
            f"{memory['naive'][0]:,.0f} MiB at 4,096 tokens and {memory['naive'][1]:,.0f} at 8,192 "
            f"(n^{memory_slope:.2f}) where the scores are written down, "
            f"{memory['flash'][1]:,.0f} MiB with flash.",
        ],
        ["prefill-plain.json", "prefill-flash.json", "gpu-h100.json"],
    )


def kv_cache() -> Claim:
    record = load("kv-cache.json")
    fit = record["exponents"]
    rows = {(row["length"], row["kv_cache"]): row for row in record["rows"]}
    longest = max(length for length, _ in rows)
    times = {
        mode: rows[longest, mode]["attention"] + rows[longest, mode]["rest"]
        for mode in ("on", "off")
    }
    good = all(fit["on"][k] < fit["off"][k] - 0.5 for k in ("attention", "rest"))
    return Claim(
        "A KV cache turns the cost of a token from O(n²) into O(n)",
        "holds" if good else "holds in part",
        [
            f"Behind {longest:,} tokens a new one takes {times['on']:,.0f} ms with the cache and "
            f"{times['off']:,.0f} ms without, {times['off'] / times['on']:.0f} times as long.",
            f"Time ≈ length^b, without the cache: attention b = {fit['off']['attention']:.2f} (by "
            f"the book 2), the rest {fit['off']['rest']:.2f} (1); with it: "
            f"{fit['on']['attention']:.2f} (1) and {fit['on']['rest']:.2f} (0).",
            "At these lengths a part of attention's cost is per call and per key, not per pair, so "
            "its exponents are still on their way up.",
        ],
        ["kv-cache.json"],
    )


def diminishing() -> Claim:
    record = load("climb-cpu.json")
    both, greedy = record["overstated"], record["greedy"]
    alone = {row["name"]: row["gain"] for row in record["alone"]}
    # Of the switches that do something alone: how many do less once the others are there?
    counting = [row for row in greedy[1:] if alone.get(row["name"], 0) > 1.1]
    less = [row["name"] for row in counting if row["gain"] < alone[row["name"]]]
    if both["product_alone"] > 1.2 * both["together"]:
        verdict = "holds"
    else:
        verdict = "holds in part" if less else "does not hold"
    steps = ", ".join(f"{row['name']} {row['gain']:.2f}×" for row in greedy)
    return Claim(
        "Each optimization buys less as the model becomes more efficient",
        verdict,
        [
            f"One at a time from everything off, the best first: {steps}.",
            "Alone, on top of nothing: "
            + ", ".join(f"{name} {gain:.2f}×" for name, gain in alone.items())
            + ".",
            f"Multiplied, the gains alone would make {both['product_alone']:.1f}×; together they "
            f"make {both['together']:.1f}×.",
            f"Of {len(counting)} that gain more than a tenth alone and were not the first, "
            f"{len(less)} gain less on top of the others"
            + (f": {', '.join(less)}." if less else "."),
        ],
        ["climb-cpu.json"],
    )


def page() -> str:
    """docs/claims.md."""
    lines = [
        "# Claims, and what was measured",
        "",
        "<!-- made by: python bench/pages.py -->",
        "",
        "What is often said of inference, held against the recorded runs in `bench/results`. The",
        "rules behind the verdicts, and the commands that record the runs, stand in",
        "[`bench/claims.py`](../bench/claims.py).",
    ]
    for claim in (ninety_percent(), flash(), kv_cache(), diminishing()):
        sources = ", ".join(f"[`{s}`](../bench/results/{s})" for s in claim.sources)
        lines += ["", f"## {claim.title}", "", f"**Verdict: {claim.verdict}.**", ""]
        lines += [*(f"- {figure}" for figure in claim.figures), "", f"From {sources}."]
    return "\n".join(lines) + "\n"
