"""`pellucid measure`: where the time of a step goes, at each length, into a run file."""

from __future__ import annotations

import argparse
import statistics
import sys
from typing import Any

from tqdm import tqdm

from pellucid.cli.common import add_config_flags, config_from, parse_lengths, write_json
from pellucid.cli.parser import Parser
from pellucid.engine import Engine
from pellucid.explore import runfile
from pellucid.explore.cells import GRID, PHASES, Settings
from pellucid.explore.measure import MeasureProgress, measure_cells

NOISY = 0.05
"""Variation over blocks from which a cell is flagged."""

_NUMBERS = {
    "blocks": "times that every length is measured in each phase",
    "max_seconds": "aim at this time with fewer blocks; warm-up and one block run in any case, so "
    "a slow machine takes longer. 0 is no limit",
    "temperature": "of the sampling; 0 takes the most likely token",
    "seed": "of the prompts and of the order of runs",
}


EXAMPLES = """examples:
  pellucid measure --phases decode --lengths 64,512,2k --max-seconds 60
  pellucid measure --json run.json                      everything, for crossover and calibrate:
                                                        10 to 40 minutes on two CPU cores"""


def add_arguments(parser: Parser) -> None:
    default = Settings()
    for flag, given, text in (
        ("--lengths", (), f"tokens of context (default: {GRID[0]} to {GRID[-1]}, as far as fits)"),
        ("--batches", default.batches, "sequences in a step (default: 1)"),
    ):
        parser.add_argument(flag, type=parse_lengths, default=given, metavar="N,N", help=text)
    parser.add_argument(
        "--phases",
        type=_words,
        default=PHASES,
        metavar="PHASE,PHASE",
        help=f"default: {','.join(PHASES)}",
    )
    for name, text in _NUMBERS.items():
        value = getattr(default, name)
        parser.add_argument(
            "--" + name.replace("_", "-"),
            type=type(value),
            default=value,
            help=f"{text} (default: {value})",
        )
    parser.add_argument("--json", metavar="FILE", help="write the run file; - is stdout")
    add_config_flags(parser)


def run(args: argparse.Namespace) -> int:
    names = ("lengths", "batches", "phases", *_NUMBERS)
    settings = Settings(**{name: getattr(args, name) for name in names})
    to_file = args.json and args.json != "-"
    if to_file:
        runfile.check_writable(args.json)
    engine = Engine(config_from(args))
    with Bar() as bar:
        record = measure_cells(engine, settings, bar.show)
    if args.json == "-":
        write_json(record, "-")
        return 0
    print(table(record))
    if to_file:
        runfile.write(record, args.json)
    return 0


class Bar:
    """Notes and a progress bar on stderr; the bar only where someone may be watching."""

    def __init__(self) -> None:
        self._bar: Any = None
        self._doing = ""

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, *error: object) -> None:
        self._close()

    def show(self, progress: MeasureProgress) -> None:
        if progress.note:
            self._close()
            print(progress.note, file=sys.stderr, flush=True)
        if progress.doing != self._doing:
            self._close()
            self._doing = progress.doing
        if self._bar is None:
            shape = "{desc} {percentage:3.0f}% |{bar}| {elapsed}<{remaining}"
            self._bar = tqdm(
                total=progress.total,
                desc=progress.doing,
                bar_format=shape,
                file=sys.stderr,
                disable=None,
                leave=False,
            )
        self._bar.update(progress.done - self._bar.n)

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def table(record: runfile.Record) -> str:
    """The run file as lines to read: medians with their 95 % intervals."""
    head = ["phase", "length", "batch", "wall ms", "attention %", "other %", "with borders", ""]
    rows = [head, *(_row(cell, record["settings"]["seed"]) for cell in record["cells"])]
    widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
    lines = [
        "  ".join(f"{text:>{width}}" for text, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    limits, num_blocks = record["limits"], len(record["cells"][0]["wall_ns"])
    lines += [
        "",
        f"Medians and 95 % intervals of {num_blocks} blocks"
        + (", interrupted" if record["interrupted"] else "")
        + "; decode: a step, prefill: the whole prompts.",
        f"The stages add up to the wall time within {record['closure']:.1%}; borders between them "
        f"make it {record['instrument_ratio']:.3f} times as long, "
        f"{record['worst_instrument_ratio']:.3f} at worst.",
        f"This machine reads {limits['read_bytes_s'] / 1e9:.1f} GB/s and multiplies at "
        f"{limits['matmul_flop_s'] / 1e9:.0f} GFLOP/s; a decode step reads "
        f"{record['weight_bytes'] / 1e6:.1f} MB of weights and "
        f"{record['kv_bytes_per_token'] / 1e3:.1f} kB for each token of context.",
        f"run {record['id']}",
    ]
    return "\n".join(lines)


def _row(cell: runfile.Record, seed: int) -> list[str]:
    walls = cell["wall_ns"]
    cv = runfile.variation(walls)
    other = statistics.median(cell["stages_ns"][runfile.OTHER]) / statistics.median(walls)
    return [
        cell["phase"],
        str(cell["length"]),
        str(cell["batch"]),
        _interval([wall / 1e6 for wall in walls], seed, 2),
        _interval([100 * share for share in runfile.shares(cell, "attention")], seed, 1),
        f"{other:.1%}".removesuffix("%"),
        f"{runfile.instrument_ratio(cell):.3f}",
        f"varies by {cv:.0%}" if cv > NOISY else "",
    ]


def _interval(samples: list[float], seed: int, digits: int) -> str:
    value, lo, hi = (f"{number:.{digits}f}" for number in runfile.interval(samples, seed))
    return f"{value} [{lo}, {hi}]"


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(","))
