"""`pellucid crossover`: from what length on attention stops being negligible."""

from __future__ import annotations

import argparse
import functools
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from pellucid.cli import hardware
from pellucid.cli.common import write_json
from pellucid.cli.model import Setting, add_setting_flags, given, setting_from
from pellucid.cli.parser import Parser
from pellucid.errors import InputError
from pellucid.explore import alternatives, runfile
from pellucid.explore.answer import as_json, besides, machine, sentence
from pellucid.explore.crossover import Estimate, Kind, Seconds, measured, modelled, samples_of
from pellucid.explore.hardware import environment
from pellucid.explore.workload import Choices
from pellucid.features import by_key

SAME_MACHINE = ("commit", "cpu", "cores", "gpu")
"""What of the environment must agree for a run to count as measured here."""


EXAMPLES = """examples:
  pellucid crossover --run run.json                     measured: a run of pellucid measure
  pellucid crossover --hardware h100 --batch 8          modelled from the card's data sheet"""


def add_arguments(parser: Parser) -> None:
    parser.add_argument("--run", dest="run_file", metavar="FILE", help="of pellucid measure")
    add_setting_flags(parser)
    parser.add_argument("--seed", type=int, default=0, help="of the bootstrap (default: 0)")
    parser.add_argument("--json", metavar="FILE", help="the lengths and their doubt; - is stdout")


def run(args: argparse.Namespace) -> int:
    if args.hardware == hardware.LIST:
        print(hardware.table())
        return 0
    if args.run_file and (others := given(args)):
        flag = "--" + next(iter(others)).replace("_", "-")
        raise InputError(
            f"--run answers from what was measured, so {flag} has no effect on it: leave one out"
        )
    record = from_run(args) if args.run_file else from_model(args)
    if args.json != "-":
        print(answer_text(record))
    if args.json:
        write_json({"environment": environment(), **record}, args.json)
    return 0


def from_run(args: argparse.Namespace) -> dict[str, Any]:
    """The answer of a run file; the flags of phase and batch choose its cells."""
    found = runfile.read(args.run_file)
    samples = samples_of(found, args.phase, args.batch)
    if len(samples) < 2:
        raise InputError(
            f"{args.run_file} has {len(samples)} lengths of {args.phase} at batch {args.batch}, "
            "and a crossing needs two: measure more, or choose another --phase or --batch"
        )
    kind = kind_of(found)
    limit = runfile.spec_of(found).context_length
    where, num_blocks = found["environment"], len(next(iter(samples.values())))
    source = f"{kind}, {len(samples)} lengths, n={num_blocks}, {where['date'][:10]}"
    return {
        **head(found["model"]["name"], machine(found), args.phase, args.batch, source),
        **as_json(measured(samples, kind, limit, args.seed)),
        "run": found["id"],
        "measured_on": where,
        "engine": found["engine"],
        "samples": samples,
    }


def kind_of(found: runfile.Record) -> Kind:
    """`measured` by this build on this machine; any other run is `recorded`."""
    here, there = environment(), found["environment"]
    return "measured" if all(there.get(k) == here.get(k) for k in SAME_MACHINE) else "recorded"


def from_model(args: argparse.Namespace) -> dict[str, Any]:
    """The cost model's answer, and what each switch does to it."""
    setting = setting_from(args)
    limit = setting.spec.context_length - setting.prefix

    def answers(choices: Choices) -> dict[str, Estimate]:
        return modelled(seconds_with(setting, choices), setting.hardware, limit)

    here, source = answers(setting.choices), setting.provenance
    return {
        **setting.record(),
        **head(setting.name, setting.hardware.name, setting.phase, setting.batch, source),
        **as_json(here),
        "switches": {
            key: effect(by_key(key).off, here["s10"], answers(without.choices)["s10"])
            for key, without in turned_off(setting)
        },
    }


def seconds_with(setting: Setting, choices: Choices) -> Seconds:
    """From a length to the seconds of each stage, with these choices."""

    @functools.cache
    def at(length: int) -> Mapping[str, float]:
        stages = replace(setting, choices=choices).budget(length).stages
        return {stage: cost.seconds for stage, cost in stages.items()}

    return at


def turned_off(setting: Setting) -> Iterable[tuple[str, alternatives.Setup]]:
    """Every switch that is on, and the setting with it off."""
    now = alternatives.setup_of(setting.choices, setting.hardware.device)
    for key, value in now.switches.items():
        if value != by_key(key).off:
            yield key, now.changed({key: by_key(key).off})


def effect(off: str, here: Estimate, there: Estimate) -> dict[str, Any]:
    """S10 without a switch, and how far that moves it; `delta` None where one side has none."""
    delta = there.value - here.value if here.value and there.value else None
    return {"off": off, "value": there.value, "status": there.status, "delta": delta}


def head(model: str, machine: str, phase: str, batch: int, source: str) -> dict[str, Any]:
    return {"name": model, "machine": machine, "phase": phase, "batch": batch, "source": source}


def answer_text(record: dict[str, Any]) -> str:
    """The answer and how far to trust it, then what each switch does."""
    answer = sentence(record["name"], record["machine"], record)
    lines = [f"{answer} {besides(record)} ({record['source']})"]
    for key, there in record.get("switches", {}).items():
        s10 = there["status"] if there["value"] is None else f"{there['value']:,}"
        moved = "" if there["delta"] is None else f" ({there['delta']:+,})"
        lines.append(f"  {key} {there['off']}: 10 % at {s10}{moved}")
    return "\n".join(lines)
