"""docs/switches: one page per switch, made from the switchboard and the recorded ablations."""

from __future__ import annotations

import dataclasses
from typing import Any

from page_results import ABLATION, load, source
from pellucid.config import EngineConfig
from pellucid.features import FEATURES, Feature

CLIMB = "climb-cpu.json"
EXACTNESS = {
    "bit": "the same bits with the switch and without",
    "token": "the same greedy tokens in fp32; in bf16 a near-tie may fall the other way",
    "distribution": "the same sampling law, tested statistically",
    "lossy": "answers differ within a measured bound",
}


def pages() -> dict[str, str]:
    """File name → text, for every row of the switchboard."""
    return {f"{feature.key}.md": page(feature) for feature in FEATURES}


def page(feature: Feature) -> str:
    field = next(f for f in dataclasses.fields(EngineConfig) if f.name == feature.key)
    flag = feature.key.replace("_", "-")
    facts = [
        ("turn it off", f"`--{flag} {feature.off}`, `LLM(..., {feature.key}={value(feature)})`"),
        ("choices", ", ".join(f"`{choice}`" for choice in feature.choices)),
        ("default", f"`{feature.default}`: {field.metadata['doc']}"),
        ("exactness", f"*{feature.exactness}*: {EXACTNESS[feature.exactness]}"),
        ("excludes", ", ".join(f"`{c}`" for c in feature.conflicts) or "nothing"),
        ("read", homes(feature)),
        ("paper", feature.paper),
    ]
    return "\n".join(
        [
            f"# `{feature.key}`: {feature.summary}",
            "",
            "<!-- made by: python bench/pages.py -->",
            "",
            feature.about,
            "",
            "| | |",
            "|---|---|",
            *(f"| {name} | {text} |" for name, text in facts),
            "",
            "## Measured effect",
            "",
            *on_gpu(feature.key),
            "",
            *on_cpu(feature.key),
            "",
            "Measure it on your machine: "
            "`pellucid ablate`. All switches: [the README](../../README.md).",
            "",
        ]
    )


def value(feature: Feature) -> str:
    """The off value as Python writes it: a number for a field that is one."""
    return feature.off if feature.off.lstrip("-").isdigit() else f'"{feature.off}"'


def homes(feature: Feature) -> str:
    base = "../../src/pellucid"
    return ", ".join(f"[`{home}`]({base}/{home})" for home in feature.homes)


def on_gpu(key: str) -> list[str]:
    """What the engine loses without the switch, everything else as by default."""
    ablation = load(ABLATION)
    where = f"{ablation['environment']['gpu']}, Qwen3-0.6B shape, bf16"
    row = find(ablation["rows"], key)
    if row is None:
        return [f"{where}: not measured, because {reason(ablation, key)} ({source_up(ABLATION)})."]
    also = "".join(f" and `{other}={value}`" for other, value in row["also"].items())
    number = ablation["workload"]["num_prompts"]
    return [
        f"{where}, everything else as by default. Without the switch{also} the same work takes",
        f"**{row['batch_time_vs_default']:.2f}×** as long for {number} prompts at once and",
        f"**{row['single_time_vs_default']:.2f}×** as long for one ({source_up(ABLATION)}). The",
        "default itself, measured again beside each switch, moved by "
        + " and ".join(f"{ablation['controls'][k]['drift']:.0%}" for k in ("batch", "single"))
        + ": less than that is noise.",
    ]


def on_cpu(key: str) -> list[str]:
    """What the switch adds, alone and when it is its turn on the way from nothing to everything."""
    climb = load(CLIMB)
    environment = climb["environment"]
    where = f"{environment['cpu']}, {environment['cores']} cores, SmolLM2-135M"
    alone, turn = find(climb["alone"], key), find(climb["greedy"], key)
    if alone is None or turn is None:
        return [f"{where}: not measured, because {reason(climb, key)} ({source_up(CLIMB)})."]
    before = [row["name"] for row in climb["greedy"][: climb["greedy"].index(turn)]]
    on_top = "`, `".join(before)
    return [
        f"{where}: alone, on top of everything off, it makes the engine",
        f"**{alone['gain']:.2f}×** as fast; "
        + (f"on top of `{on_top}` **{turn['gain']:.2f}×**" if before else "it is the first to add")
        + f" ({source_up(CLIMB)}).",
    ]


def find(rows: list[dict[str, Any]], key: str) -> dict[str, Any] | None:
    return next((row for row in rows if row["name"] == key), None)


def reason(record: dict[str, Any], key: str) -> str:
    """Why a run left a switch out; a switch that is newer than the run was not there."""
    skipped: dict[str, str] = {skip["name"]: skip["reason"] for skip in record["skipped"]}
    return skipped.get(key, "the recorded run is older than the switch")


def source_up(name: str) -> str:
    """A link to a recorded result, from a page in docs/switches/."""
    return source(name).replace("(../", "(../../")
