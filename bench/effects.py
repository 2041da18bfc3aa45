#!/usr/bin/env python
"""What each switch does to a decode step: modelled beside measured, in turns with the defaults.

    python bench/effects.py [--model smollm2] [--json bench/results/effects-cpu.json]

A run of both phases is measured first and a machine is fitted to it, as the page does. Then every
value of every switch that this engine can have, and that can matter to a decode step, is measured
in turns with the engine's own (explore/turns.py), at the lengths of `LENGTHS`. An effect is the
time with the value over the time without it, of medians. The goals: its sign is right wherever the
measured one exceeds 5 %, and its size within a factor of 1.25 for three quarters of them.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
from typing import Any

import environment as shared
from pellucid import LLM
from pellucid.explore import runfile
from pellucid.explore.alternatives import setup_of
from pellucid.explore.calibrate import calibrate, choices_of, device_of
from pellucid.explore.cells import DECODE, Settings
from pellucid.explore.measure import MeasureProgress, measure_cells
from pellucid.explore.roofline import Prices
from pellucid.explore.turns import measure_in_turns
from pellucid.explore.workload import Workload
from pellucid.process import own_process

LENGTHS = (256, 4096)
CLEAR, NEAR, ENOUGH = 0.05, 1.25, 0.75
COSTLESS = ("batching", "chunked_prefill")
"""Switches that make no decode step another one, with stored keys and values."""
SHOWN = "switch value length measured modelled sign within"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", metavar="FILE")
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--load-format", default="auto")
    parser.add_argument("--blocks", type=int, default=5)
    parser.add_argument("--max-seconds", type=float, default=60.0, help="of each measurement")
    parser.add_argument("--commit", default="", help="of the sources, where git does not know")
    args = parser.parse_args()
    own_process()
    llm = LLM(args.model, load_format=args.load_format, context_length=8192)
    lengths = {"lengths": LENGTHS, "phases": (DECODE,), "blocks": args.blocks}
    work = Settings(**lengths, max_seconds=args.max_seconds)
    run = measure_cells(
        llm.engine, Settings(blocks=args.blocks, max_seconds=2 * args.max_seconds), quiet
    )
    rows = list(effects(llm, work, Model(run)))
    verdicts = judged(rows)
    print(*verdicts, sep="\n")
    if args.json:
        where = shared.environment()
        where["commit"] = args.commit or where["commit"]
        record = {"environment": where, "run": run["id"], "effects": rows, "verdicts": verdicts}
        shared.write_json(args.json, record)


class Model:
    """The machine that fits the run, and the setting that was measured."""

    def __init__(self, run: runfile.Record) -> None:
        self.run = run
        self.spec = runfile.spec_of(run)
        self.setting = setup_of(choices_of(run), device_of(run))
        self.hardware = calibrate(run).hardware

    def ratio(self, key: str, value: str, length: int) -> float | None:
        """Modelled time with the value over that without; None if the model does not know it."""
        if not self.setting.knows(key) or not self.setting.can(key, value):
            return None
        work = Workload(phase="decode", length=length)
        there, here = (
            sum(Prices(self.spec, setting.choices, self.hardware).seconds(work).values())
            for setting in (self.setting.changed({key: value}), self.setting)
        )
        return there / here


def quiet(news: MeasureProgress) -> None:
    if news.note:
        print(f"  {news.note}", file=sys.stderr, flush=True)


def effects(llm: LLM, work: Settings, model: Model) -> Any:
    """A row for each value and length, printed as it comes."""
    info = llm.engine.info
    print(SHOWN)
    for key, values in info.obstacles.items():
        for value, why_not in values.items():
            if why_not or value == info.switches[key] or key in COSTLESS:
                continue
            files = measure_in_turns(llm.engine, work, {key: value}, quiet)
            for length in LENGTHS:
                own, other = (
                    next(cell for cell in file["cells"] if cell["length"] == length)
                    for file in files
                )
                samples = [b / a for a, b in zip(own["wall_ns"], other["wall_ns"], strict=True)]
                measured = statistics.median(other["wall_ns"]) / statistics.median(own["wall_ns"])
                row = {"switch": key, "value": value, "length": length, "measured": measured}
                row |= {"modelled": model.ratio(key, value, length), "samples": samples}
                print(line(row), flush=True)
                yield row


def is_clear(row: dict[str, Any]) -> bool:
    return bool(abs(row["measured"] - 1) > CLEAR)


def has_right_sign(row: dict[str, Any]) -> bool:
    return bool((row["measured"] > 1) == (row["modelled"] > 1))


def is_near(row: dict[str, Any]) -> bool:
    return abs(math.log(row["modelled"] / row["measured"])) <= math.log(NEAR)


def line(row: dict[str, Any]) -> str:
    start = f"{row['switch']:16} {row['value']:11} {row['length']:5} {row['measured']:9.3f}"
    if row["modelled"] is None:
        return f"{start}   not modelled"
    sign = ("right" if has_right_sign(row) else "WRONG") if is_clear(row) else "-"
    return f"{start} {row['modelled']:9.3f}   {sign:5}  {'yes' if is_near(row) else 'no'}"


def verdict(is_met: bool) -> str:
    return "met" if is_met else "not met"


def judged(rows: list[dict[str, Any]]) -> list[str]:
    """Whether the goals are met, in a line each."""
    told = [row for row in rows if row["modelled"] is not None]
    clear, near = [row for row in told if is_clear(row)], [row for row in told if is_near(row)]
    right = sum(map(has_right_sign, clear))
    part = len(near) / len(told)
    return [
        f"sign: {right} of {len(clear)} right ({verdict(right == len(clear))})",
        f"size: {len(near)} of {len(told)} within {NEAR} ({verdict(part >= ENOUGH)})",
    ]


if __name__ == "__main__":
    main()
