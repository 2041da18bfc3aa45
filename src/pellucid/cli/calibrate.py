"""`pellucid calibrate`: fit the cost model to a run, and say how well it then predicts."""

from __future__ import annotations

import argparse
import sys

from pellucid.cli.common import write_json
from pellucid.cli.parser import Parser
from pellucid.explore import runfile
from pellucid.explore.calibrate import START, Calibration, calibrate, calibration_file
from pellucid.explore.crossover import PARTS
from pellucid.explore.hardware import environment
from pellucid.explore.roofline import Hardware

EXAMPLES = """examples:
  pellucid measure --json run.json
  pellucid calibrate --run run.json --json here.json
  pellucid model --hardware here.json"""


def add_arguments(parser: Parser) -> None:
    parser.add_argument(
        "--run", dest="run_file", metavar="FILE", required=True, help="of pellucid measure"
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="of which cells are set aside (default: 0)"
    )
    parser.add_argument(
        "--json", metavar="FILE", help="the machine, for --hardware of other verbs; - is stdout"
    )


def run(args: argparse.Namespace) -> int:
    record = runfile.read(args.run_file)
    found = calibrate(record, args.seed)
    if args.json != "-":
        print(table(found))
    if warning := beyond(found.hardware):
        print(warning, file=sys.stderr)
    if args.json:
        write_json({"environment": environment(), **calibration_file(found, record)}, args.json)
    return 0


MOST = {"eta_gemm": 1.02, "eta_attention_flops": 1.02, "eta_gemv": 1.2, "eta_attention_bytes": 1.2}
"""Beyond these a fit is not to be believed. No product beats the large one that the machine's rate
was measured with; reading may beat memory by a little where a cache holds part of the weights (1.12
was fitted on an H100 with a 0.6B model), and small steps by a lot, which are not listed."""


def beyond(hardware: Hardware) -> str:
    """A warning if the fit says that more than the machine's limits was reached; else nothing."""
    above = [name for name, most in MOST.items() if getattr(hardware, name) > most]
    if not above:
        return ""
    values = ", ".join(f"{name} {getattr(hardware, name):.2f}" for name in above)
    return (
        f"warning: {values}: above 1, which is more than the limits measured in the same run. The "
        "machine was probably busy while they were measured; measure again on a quiet one before "
        "trusting this fit"
    )


def table(found: Calibration) -> str:
    """The fitted numbers, then the errors on the cells that were set aside."""
    hardware, report = found.hardware, found.report
    stages, shares, steps = (
        report[key] for key in ("stage_error", "share_error_points", "step_error")
    )
    lines = [
        f"{hardware.name}: {hardware.flop_s / 1e12:.3g} TFLOP/s, {hardware.bytes_s / 1e9:.3g} GB/s",
        *(f"  {name:20} {getattr(hardware, name):.3g}" for name in START),
        f"on {report['num_held_out']} cells set aside (fitted to {report['num_fitted']}):",
        f"  stage error     median {stages['median']:.1%}, p90 {stages['p90']:.1%}",
        f"  step error      median {steps['median']:.1%}, most {steps['max']:.1%}",
        f"  attention share median {shares['median']:.1f} points, most {shares['max']:.1f}",
        f"  band            {hardware.fastest:.2f} to {hardware.slowest:.2f} × modelled",
    ]
    for row in report["crossover"]:
        told, seen = row["modelled"], row["measured"]
        ratio = f", ratio {row['ratio']:.2f}" if row["ratio"] else ""
        lines.append(
            f"  {PARTS[row['level']]:.0%} in {row['phase']}, batch {row['batch']}: "
            f"modelled {told['value'] or told['status']}, "
            f"measured {seen['value'] or seen['status']}{ratio}"
        )
    return "\n".join(lines)
