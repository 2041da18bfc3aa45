"""The one answer, in a sentence: from what length on attention is no longer negligible.

`crossover.py` finds the lengths; here they are put into words and records, the same for the command
line, the server and the page.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pellucid.explore import runfile
from pellucid.explore.crossover import PARTS, Estimate, Kind, measured, samples_of

WHOLE = {
    "decode": "a decode step",
    "prefill": "a prompt's time",
    "request": "a whole request's time",
}


def answers_of(run: runfile.Record, kind: Kind, seed: int = 0) -> list[dict[str, Any]]:
    """The answer of each phase and batch that a run has at two lengths or more."""
    groups = {(cell["phase"], cell["batch"]) for cell in run["cells"]}
    rows = []
    for phase, batch in sorted(groups):
        samples = samples_of(run, phase, batch)
        if len(samples) > 1:
            limit = run["model"]["spec"]["context_length"]
            found = measured(samples, kind, limit, seed)
            row = {"phase": phase, "batch": batch, **as_json(found)}
            rows.append({**row, "sentence": sentence(run["model"]["name"], machine(run), row)})
    return rows


def machine(run: runfile.Record) -> str:
    """The device that a run was measured on, for people."""
    environment = run["environment"]
    on_gpu = str(run["engine"].get("device", "")).startswith("cuda")
    return str(environment.get("gpu") if on_gpu else environment.get("cpu", "a CPU"))


def as_json(answers: Mapping[str, Estimate]) -> dict[str, Any]:
    return {name: answer._asdict() for name, answer in answers.items()}


def sentence(model: str, machine: str, row: Mapping[str, Any]) -> str:
    """The answer: from what length on attention is no longer negligible."""
    what = f"10 % of {WHOLE[row['phase']]}"
    many = "" if row["batch"] == 1 else f" at batch {row['batch']}"
    return f"On {model} and {machine}, attention {clause(what, row['s10'])}{many}."


def besides(row: Mapping[str, Any]) -> str:
    """Where it becomes visible, and where it dominates."""
    clauses = (
        clause(f"{PARTS[name]:.0%}".replace("%", " %"), row[name]) for name in ("s05", "s50")
    )
    return f"It {'; it '.join(clauses)}."


def clause(what: str, answer: Mapping[str, Any]) -> str:
    """`reaches 10 % of a decode step at 13,189 tokens (6,000 to 30,000)`."""
    value, lo, hi = answer["value"], answer["lo"], answer["hi"]
    if value is None:
        return f"never reaches {what} {answer['status'].removeprefix('never ')} tokens"
    if answer["status"].startswith("already at "):
        told = ", the shortest that was measured" if value > 1 else ""
        return f"is {what} already at {value:,} {'token' if value == 1 else 'tokens'}{told}"
    band = f" ({lo:,} to {hi:,})" if lo and hi else f" (from {lo:,})" if lo else ""
    doubt = ", extrapolated" if answer["status"] == "extrapolated" else ""
    tokens = "token" if value == 1 else "tokens"
    return f"reaches {what} at {value:,} {tokens}{band}{doubt}"
