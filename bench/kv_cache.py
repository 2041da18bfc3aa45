#!/usr/bin/env python
"""What the KV cache buys: time per new token against sequence length, with it and without.

    python bench/kv_cache.py [--model smollm2] [--json bench/results/kv-cache.json]

For each length the engine holds a sequence of that many tokens and then generates a few more, one
step per token; `kv_cache=off` computes the whole prefix for each of them. The stage clock splits a
step into attention and everything else. The exponent b of time ≈ a·length^b is fitted by least
squares over the upper half of the lengths, where the constant cost of a step weighs least.

On and off, and the lengths, alternate within each repeat, so that a busy machine hits all alike.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import statistics
import sys
from typing import Any

from pellucid.config import EngineConfig
from pellucid.engine import Engine
from pellucid.explore.hardware import environment
from pellucid.process import own_process
from pellucid.request import Request, SamplingParams
from pellucid.stages import WallClock

MODES = ("on", "off")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--load-format", default="auto", help="dummy: random weights")
    parser.add_argument("--lengths", type=int, nargs="+", default=[64, 128, 256, 512, 1024, 2048])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=3, help="new tokens measured each time")
    parser.add_argument("--json", metavar="FILE")
    args = parser.parse_args()
    own_process()

    engines = {mode: make_engine(args.model, args.load_format, mode) for mode in MODES}
    samples: dict[tuple[str, int], list[dict[str, float]]] = {}
    for repeat in range(args.repeats):
        for length in args.lengths:
            for mode in MODES:
                print(f"repeat {repeat + 1} length {length} kv_cache {mode}", file=sys.stderr)
                samples.setdefault((mode, length), []).append(
                    measure(*engines[mode], length, args.tokens, repeat)
                )
    rows = [summarize(mode, n, samples[mode, n]) for mode in MODES for n in args.lengths]
    fits = {mode: exponents([r for r in rows if r["kv_cache"] == mode]) for mode in MODES}
    show(rows, fits)
    if args.json:
        raw = [{"kv_cache": m, "length": n, "samples": s} for (m, n), s in samples.items()]
        record: dict[str, Any] = {
            "environment": environment(),
            "settings": {"model": args.model, "tokens": args.tokens},
        }
        record |= {"rows": rows, "exponents": fits, "raw": raw}
        with open(args.json, "w", encoding="utf-8") as file:
            json.dump(record, file, indent=1)


def make_engine(model: str, load_format: str, mode: str) -> tuple[Engine, WallClock]:
    clock = WallClock()
    config = EngineConfig(
        model=model,
        load_format=load_format,
        dtype="float32",
        kv_cache=mode,
        chunked_prefill=0,
        memory=1.0,
        max_seqs=1,
    )
    return Engine(config, clock=clock), clock


def measure(
    engine: Engine, clock: WallClock, length: int, num_tokens: int, repeat: int
) -> dict[str, float]:
    """Milliseconds per new token behind `length` tokens, by stage."""
    rng = random.Random(repeat * 10_000 + length)
    prompt = [rng.randrange(engine.info.vocab_size) for _ in range(length)]
    params = SamplingParams(temperature=0, max_tokens=num_tokens + 1, ignore_eos=True)
    engine.add(Request(id="kv", prompt_token_ids=prompt, params=params))
    engine.step()  # the prompt; what follows is one token per step
    clock.restart()
    while engine.has_work:
        engine.step()
    stages = {stage: ns / 1e6 / num_tokens for stage, ns in clock.ns.items()}
    attention = stages.get("attention", 0.0)
    return {"attention": attention, "rest": sum(stages.values()) - attention, **stages}


def summarize(mode: str, length: int, samples: list[dict[str, float]]) -> dict[str, Any]:
    row: dict[str, Any] = {"kv_cache": mode, "length": length}
    for part in ("attention", "rest"):
        values = [sample[part] for sample in samples]
        row[part] = statistics.median(values)
        row[part + "_range"] = [min(values), max(values)]
    return row


def exponents(rows: list[dict[str, Any]]) -> dict[str, float]:
    """The slope of log(time) over log(length) of the longer half, for each part."""
    upper = rows[len(rows) // 2 - 1 :]
    xs = [math.log(row["length"]) for row in upper]
    return {
        part: statistics.linear_regression(xs, [math.log(row[part]) for row in upper]).slope
        for part in ("attention", "rest")
    }


def show(rows: list[dict[str, Any]], fits: dict[str, dict[str, float]]) -> None:
    print("kv_cache  length   attention ms/token (range)        everything else (range)")
    for row in rows:
        cells = [
            f"{row[part]:10.2f} ({row[part + '_range'][0]:.2f}-{row[part + '_range'][1]:.2f})"
            for part in ("attention", "rest")
        ]
        print(f"{row['kv_cache']:8} {row['length']:7}   {cells[0]:32} {cells[1]}")
    for mode, fit in fits.items():
        parts = ", ".join(f"{part} {slope:.2f}" for part, slope in fit.items())
        print(f"time ≈ length^b with kv_cache={mode}: {parts}")


if __name__ == "__main__":
    main()
