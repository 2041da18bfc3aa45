"""What is often said about inference, held against what was measured here: docs/claims.md.

    pellucid measure --phases prefill --lengths 256,512,1024,2048 --blocks 3 \\
        --attention naive --fused-kernels off --weights dense --chunked-prefill 0 \\
        --json bench/results/prefill-plain.json
    pellucid measure --phases prefill --lengths 256,512,1024,2048 --blocks 3 \\
        --attention flash --fused-kernels off --weights dense --chunked-prefill 0 \\
        --json bench/results/prefill-flash.json
    python bench/kv_cache.py --json bench/results/kv-cache.json
    python bench/diminishing.py …                             three commands, see its docstring
    python bench/pages.py

Each claim gets a verdict (holds, holds in part, does not hold) by a rule that is written here, next
to the figures it follows from. `tests/unit/test_pages.py` fails when the page says anything else
than the recorded results.
"""

from __future__ import annotations

import json
import math
import statistics
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

from diminishing import BATCHES
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
    table: str = ""


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
    """In the time saved and in the factor, each switch is compared with itself: first and last."""
    names = sorted(path.name for path in RESULTS.glob("diminishing-*.json"))
    records = [load(name) for name in names]
    works = [(record, work) for record in records for work in record["workloads"]]
    told: dict[str, Counter[str]] = {"saved_ms": Counter(), "factor": Counter()}
    for _, work in works:
        for key in judged(work):
            for figure, counts in told.items():
                counts[trend(work, key, figure)] += 1
    verdicts = {figure: diminishing_verdict(counts) for figure, counts in told.items()}
    if verdicts["saved_ms"] == verdicts["factor"]:
        verdict = verdicts["factor"]
    else:
        verdict = f"for the time saved it {verdicts['saved_ms']}, for the factor it "
        verdict += verdicts["factor"]
    return Claim(
        "Each optimization buys less as the model becomes more efficient",
        verdict,
        [
            "Each optimization is measured twice on answers of real length: *first*, on top of "
            "nothing (or of what it does not work without), and *last*, on top of all others.",
            counted("What it saves, in milliseconds per token,", told["saved_ms"]),
            counted("The factor, time before / time after,", told["factor"]),
            "The two need not agree. What a switch saves is a part of the time that is left, and "
            "the others shorten that. A factor says how large this part is, and it grows where the "
            "others shorten the rest: 100 ms to 50 ms is 2×, and 10 ms to 2 ms is 5×.",
            *needing_others(works),
        ],
        names,
        "\n\n".join(workload_table(record, work) for record, work in works),
    )


def needing_others(works: list[tuple[dict[str, Any], dict[str, Any]]]) -> list[str]:
    """A line on the switches that are a loss alone and a gain beside the others, if there are."""
    found = []
    for _, work in works:
        for key in judged(work):
            first, last = (step_of(work, kind, key) for kind in ("first", "last"))
            if first and last and first["factor"]["max"] < 1 < last["factor"]["min"]:
                factors = f"{first['factor']['median']:.2f}× and {last['factor']['median']:.2f}×"
                found.append(f"`{key}` ({factors}, prompt of {work['prompt']:,})")
    if not found:
        return []
    line = f"A loss first and a gain last: {', '.join(found)}."
    if "`weights`" in line:
        line += (
            " Weights in 4-bit blocks are faster to multiply by few rows and slower by many, and "
            "without a KV cache every step has many."
        )
    return [line]


def judged(work: dict[str, Any]) -> list[str]:
    """The switches that were measured first and last, and do something in one of the two."""
    return [
        key
        for key in dict.fromkeys(step["switch"] for step in work["steps"])
        if all(step_of(work, kind, key) for kind in ("first", "last"))
        and any(
            not step["factor"]["min"] <= 1 <= step["factor"]["max"]
            for step in (step_of(work, "first", key), step_of(work, "last", key))
            if step
        )
    ]


def step_of(work: dict[str, Any], kind: str, key: str) -> dict[str, Any] | None:
    return next((s for s in work["steps"] if (s["kind"], s["switch"]) == (kind, key)), None)


def trend(work: dict[str, Any], key: str, figure: str) -> str:
    """Whether a switch's figure is `smaller` or `larger` last than first: told only where the
    samples of the two do not overlap."""
    first, last = (step_of(work, kind, key) for kind in ("first", "last"))
    assert first is not None and last is not None
    if last[figure]["max"] < first[figure]["min"]:
        return "smaller"
    return "larger" if last[figure]["min"] > first[figure]["max"] else "open"


def diminishing_verdict(counts: Counter[str]) -> str:
    if not counts["smaller"]:
        return "does not hold"
    return "holds in part" if counts["larger"] else "holds"


def counted(what: str, counts: Counter[str]) -> str:
    return (
        f"{what} is smaller last than first in {counts['smaller']} of {counts.total()} cases, "
        f"larger in {counts['larger']}, and not to be told apart in {counts['open']}."
    )


def workload_table(record: dict[str, Any], work: dict[str, Any]) -> str:
    """What each switch does first and last, under a line that says where."""
    times = {tuple(e["on"]): e["ms_per_token"]["median"] for e in work["engines"]}
    kept = [key for key in record["kept"] if key not in BATCHES]
    everything, nothing = times.get(tuple(record["switches"])), times.get(())
    lines = [
        f"{record['model']} on {record['device']}"
        + (", one thread, CPU time" if record["clock"] == "cpu" else "")
        + f", prompt of {work['prompt']:,}, answer of {work['answer']} tokens"
        + (f", `{'`, `'.join(kept)}` on throughout" if kept else "")
        + f"; median of {work['rounds']} rounds (smallest to largest)."
    ]
    if everything and nothing:
        lines[0] += (
            f" A token takes {nothing:,.2f} ms with everything off and {everything:,.2f} ms with "
            "everything on."
        )
    lines += [
        "",
        "| | factor, first | factor, last | ms saved, first | ms saved, last |",
        "|---|---:|---:|---:|---:|",
    ]
    for key in dict.fromkeys(step["switch"] for step in work["steps"]):
        found = [step_of(work, kind, key) for kind in ("first", "last")]
        cells = [
            spanned(step[figure], mark) if step else "–"
            for figure, mark in (("factor", "×"), ("saved_ms", ""))
            for step in found
        ]
        lines.append(f"| `{key}` | {' | '.join(cells)} |")
    ladder = [step for step in work["steps"] if step["kind"] == "ladder"]
    rungs = [
        f"`{s['switch']}` {s['factor']['median']:.2f}× ({s['saved_ms']['median']:,.2f} ms)"
        for s in ladder
    ]
    return "\n".join([*lines, "", f"Added one after the other: {', '.join(rungs)}."])


def spanned(sample: dict[str, Any], mark: str) -> str:
    middle, low, high = (f"{sample[k]:,.2f}" for k in ("median", "min", "max"))
    return f"{middle}{mark} ({low} to {high})"


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
        lines += [*(f"- {figure}" for figure in claim.figures), ""]
        lines += [claim.table, ""] if claim.table else []
        lines += [f"From {sources}."]
    return "\n".join(lines) + "\n"
