"""An ablation's report as tables to read: in the terminal, and for the README."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pellucid.explore.ablate import ALL_OFF, DEFAULT
from pellucid.stages import STAGES


def table(result: dict[str, Any], markdown: bool = False) -> str:
    """The report to read: speeds, then stages, then what was left out and how steady it was."""
    form = markdown_lines if markdown else text_lines
    parts = [
        form(*speed_cells(result, markdown)),
        form(*stage_cells(result, markdown)),
        *([form(*climb_cells(result, markdown))] if result.get("greedy") else []),
        [f"{'- ' if markdown else ''}{note}" for note in notes(result)],
    ]
    return "\n\n".join("\n".join(part) for part in parts)


def speed_cells(result: dict[str, Any], markdown: bool) -> tuple[list[str], list[list[str]]]:
    number = result["workload"]["num_prompts"]
    head = ["without", f"tokens/s, batch of {number}", "time", "ms/token, batch 1", "time"]
    body = [
        [
            title(row, markdown),
            span(row["batch_tok_s"], 0 if row["batch_tok_s"]["median"] >= 100 else 1),
            f"{row['batch_time_vs_default']:.2f}×",
            span(row["single_ms_per_token"], 2),
            f"{row['single_time_vs_default']:.2f}×",
        ]
        for row in result["rows"]
    ]
    return head, body


def stage_cells(result: dict[str, Any], markdown: bool) -> tuple[list[str], list[list[str]]]:
    """ms per token at batch 1. `other` is what the stages leave of the time without borders, and
    those stages that are nowhere a hundredth."""
    rows = result["rows"]
    shown = [
        stage
        for stage in STAGES
        if stage != "other"
        and any(row["stages_ms"].get(stage, 0) > row["stages_wall_ms"] / 100 for row in rows)
    ]
    body = []
    for row in rows:
        values = [row["stages_ms"].get(stage, 0.0) for stage in shown]
        rest = row["single_ms_per_token"]["median"] - sum(values)
        ratio = f"{row['stages_wall_ratio']:.2f}×"
        body.append([title(row, markdown), *(f"{value:.2f}" for value in (*values, rest)), ratio])
    return ["ms per token", *shown, "other", "with / without borders"], body


def climb_cells(result: dict[str, Any], markdown: bool) -> tuple[list[str], list[list[str]]]:
    """The way up: what each switch buys there, and what it buys alone."""
    alone = {row["name"]: row for row in result["alone"]}
    body = []
    for row in result["greedy"]:
        name = f"+ `{row['name']}`" if markdown else f"+ {row['name']}"
        first = alone.get(row["name"])
        cells = [gain(row["batch"]), gain(row["single"])]
        cells += [gain(first["batch"]), gain(first["single"])] if first else ["", ""]
        rates = [f"{row['batch_tok_s']:.1f}", f"{row['single_ms_per_token']:.2f}"]
        body.append([name, *cells, *rates])
    head = [
        "from nothing up",
        "batch",
        "batch 1",
        "alone: batch",
        "batch 1",
        "tokens/s",
        "ms/token",
    ]
    return head, body


def gain(record: dict[str, Any]) -> str:
    return f"{record['median']:.2f}× ({record['lo']:.2f}–{record['hi']:.2f})"


def notes(result: dict[str, Any]) -> list[str]:
    """What the tables do not say: how steady it was, what is missing, what was cut."""
    work, controls = result["workload"], result["controls"]
    lines = [
        "Time is relative to the default configuration, measured in turns. Medians of "
        f"{work['repeats']} repeats, smallest to largest in brackets. The default itself moved by "
        f"{controls['batch']['drift']:.0%} (batch, {len(controls['batch']['medians'])} times) and "
        f"{controls['single']['drift']:.0%} (batch 1, {len(controls['single']['medians'])} times)."
    ]
    if work["num_prompts"] <= result["config"]["max_seqs"]:
        lines.append(
            f"All {work['num_prompts']} prompts fit into one batch of max_seqs "
            f"{result['config']['max_seqs']}: how waiting requests join cannot show."
        )
    if both := result.get("overstated"):
        lines.append(
            f"Alone, the switches would multiply to {both['product_alone']:.1f}×; together they "
            f"make it {both['together']:.1f}×."
        )
    lines += [f"Not on the way up: {note}." for note in result.get("notes", [])]
    lines += [f"Not measured: {skip['name']}: {skip['reason']}." for skip in result["skipped"]]
    for row in result["rows"]:
        batch, single = row["output_len"]["batch"], row["output_len"]["single"]
        if row["shortened"]:
            lines.append(
                f"{row['name']} was shortened to fit into {work['limit_s']:g} s: "
                f"answers of up to {batch} (batch) and {single} (batch 1) tokens, "
                f"not {work['output_len']}."
            )
    return lines


def title(row: dict[str, Any], markdown: bool) -> str:
    """The row's name and what went with it."""
    name = row["name"]
    if name in (DEFAULT, ALL_OFF):
        shown = "nothing (the default)" if name == DEFAULT else "everything"
        return f"**{shown}**" if markdown else shown
    pairs = [name, *(f"{key}={value}" for key, value in row["also"].items())]
    first, *also = [f"`{pair}`" for pair in pairs] if markdown else pairs
    return first + (f" (then also {', '.join(also)})" if also else "")


def span(sample: dict[str, float], digits: int) -> str:
    low, middle, high = (f"{sample[key]:.{digits}f}" for key in ("min", "median", "max"))
    return f"{middle} ({low}–{high})"


def markdown_lines(head: Sequence[str], body: Sequence[Sequence[str]]) -> list[str]:
    marks = ["---", *["---:"] * (len(head) - 1)]
    return [f"| {' | '.join(cells)} |" for cells in (head, marks, *body)]


def text_lines(head: Sequence[str], body: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(cells[i]) for cells in (head, *body)) for i in range(len(head))]
    return [
        "  ".join(
            [cells[0].ljust(widths[0])]
            + [cell.rjust(width) for cell, width in zip(cells[1:], widths[1:], strict=True)]
        ).rstrip()
        for cells in (head, *body)
    ]
