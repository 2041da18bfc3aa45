#!/usr/bin/env python
"""Golden vectors of the roofline model, for its twin in TypeScript (frontend/src/model).

    python tests/golden/make_roofline.py

Writes frontend/tests/golden/roofline.json, questions drawn with a fixed seed and what Python
answers, and what both sides share: frontend/src/model/peaks.json, the data sheets; switches.json
beside it, what the switchboard says of switches that exclude each other; and
frontend/src/data/words.json, what each switch of the cost model can be.

A vector is `given`, the records of the question as they are, and `found`, what `budget_of`,
`crossings_of` or `effects_of` makes of them; unit/test_roofline_golden.py makes it again. Floats
are written by repr, which loses nothing.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import random
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pellucid.explore.crossover import effects, modelled
from pellucid.explore.peaks import SLOWEST, STARTS, find_hardware
from pellucid.explore.roofline import MODELLED, Budget, Cost, Hardware, budget
from pellucid.explore.sheets import PEAKS
from pellucid.explore.work import GRAPHED_TOKENS
from pellucid.explore.workload import Choices, Workload
from pellucid.features import FEATURES
from pellucid.model.spec import ModelSpec

FRONTEND = Path(__file__).parents[2] / "frontend"
VECTORS = FRONTEND / "tests" / "golden" / "roofline.json"
SHEETS = FRONTEND / "src" / "model" / "peaks.json"
SWITCHES = FRONTEND / "src" / "model" / "switches.json"
WORDS = FRONTEND / "src" / "data" / "words.json"

Record = dict[str, Any]

SEED = 20
NUM_BUDGETS, NUM_CROSSOVERS, NUM_EFFECTS = 540, 60, 40
MOST_STEPS = 40
"""Of one prompt batch; more would only make the vectors slow to check."""

NO_WINDOW: Record = {"sliding_window": 0, "local_layers": []}
PLAIN: Record = {"qk_norm": False, "sandwich_norms": False, **NO_WINDOW}
SHAPES: dict[str, Record] = {
    "Llama-3.1-8B": {
        "vocab_size": 128_256, "hidden_size": 4096, "intermediate_size": 14_336, "num_layers": 32,
        "num_heads": 32, "num_kv_heads": 8, "head_dim": 128, **PLAIN,
    },
    "Qwen3-0.6B": {
        "vocab_size": 151_936, "hidden_size": 1024, "intermediate_size": 3072, "num_layers": 28,
        "num_heads": 16, "num_kv_heads": 8, "head_dim": 128, **PLAIN, "qk_norm": True,
    },
    "Gemma 3 270M": {
        "vocab_size": 262_144, "hidden_size": 640, "intermediate_size": 2048, "num_layers": 18,
        "num_heads": 4, "num_kv_heads": 1, "head_dim": 256, "qk_norm": True,
        "sandwich_norms": True, "sliding_window": 512,
        "local_layers": [layer % 6 != 5 for layer in range(18)],
    },
    "SmolLM2-135M": {
        "vocab_size": 49_152, "hidden_size": 576, "intermediate_size": 1536, "num_layers": 30,
        "num_heads": 9, "num_kv_heads": 3, "head_dim": 64, **PLAIN,
    },
}  # fmt: skip
"""The fields of `ModelSpec` that the cost model reads."""
REST: Record = {
    "family": "llama", "context_length": 1, "norm_eps": 1e-5, "rope_theta": 1e4,
}  # fmt: skip
"""Those that it does not."""

EDGES = (1, 2, 7, 8, 9, 511, 512, 513, 46_340, 46_341, 46_342, 65_536, 131_072, 200_000)
"""Lengths at which something changes; the square of 46,341 is the first beyond 31 bits."""
REPLAYED = (
    (GRAPHED_TOKENS, 1),
    (GRAPHED_TOKENS + 1, 1),
    (GRAPHED_TOKENS // 4, 4),
    (GRAPHED_TOKENS // 4, 5),
    (10_000, 1),
)
"""Prompts of so many tokens each, so many at once; the last are a step of 8192 and one of 1808."""
FEW_BATCHES = (1, 2, 3, 4, 8, 9)
SLOW_HOST: Record = asdict(find_hardware("h200")) | {
    "name": "slow host", "kind": "calibrated", "launch_s": 3e-4, "library_s": 2e-4,
    "attention_launches": 2.0, "gemm_rows": 8.0, "attention_positions": 64.0, "eta_gemm": 0.8,
    "eta_gemv": 0.9, "eta_reduction": 0.5, "eta_elementwise": 0.7, "fastest": 0.8,
}  # fmt: skip
"""Whose launches show wherever steps are not replayed."""
LIMITS = (1, 2, 100, 4096, 8192, 32_768, 32_768, 131_072, 131_072)
STORED = (4.0, 2.0, 2.0, 1.0625, 1.0, 0.6875, 0.5625)
"""Bytes per element of what is stored, blocks of GGUF among them."""


# What is asked


def draw_length(rng: random.Random, most: int) -> int:
    """Evenly over the octaves, and now and then one of `EDGES`."""
    edges = [edge for edge in EDGES if edge <= most]
    return rng.choice(edges) if rng.random() < 0.3 else round(spread(rng, 1, most))


def spread(rng: random.Random, least: float, most: float) -> float:
    """A number with four digits whose logarithm is uniform."""
    return float(f"{least * (most / least) ** rng.random():.4g}")


def draw_shape(rng: random.Random, index: int) -> Record:
    """The known ones in turns, and a random one every fifth time."""
    known = list(SHAPES.values())
    return known[index % 5] if index % 5 < len(known) else random_shape(rng)


def random_shape(rng: random.Random) -> Record:
    num_layers, num_kv_heads = rng.randint(1, 40), rng.choice((1, 2, 3, 8))
    windowed = rng.random() < 0.5
    some_local = windowed and rng.random() < 0.7
    return {
        "vocab_size": rng.randint(1000, 200_000),
        "hidden_size": 32 * rng.randint(4, 200),
        "intermediate_size": 32 * rng.randint(8, 800),
        "num_layers": num_layers,
        "num_heads": num_kv_heads * rng.randint(1, 8),
        "num_kv_heads": num_kv_heads,
        "head_dim": rng.choice((32, 64, 80, 128, 256)),
        "qk_norm": rng.random() < 0.5,
        "sandwich_norms": rng.random() < 0.5,
        "sliding_window": draw_length(rng, 8192) if windowed else 0,
        "local_layers": [rng.random() < 0.7 for _ in range(num_layers)] if some_local else [],
    }


def draw_workload(rng: random.Random) -> Record:
    phase = rng.choice(("decode", "prefill"))
    is_prompt = phase == "prefill"
    return {
        "phase": phase,
        "length": draw_length(rng, 200_000),
        "batch": rng.choice((1, 1, 2, 3) if is_prompt else (1, 1, 2, 7, 8, 9, 64, 256)),
        "prefix": draw_length(rng, 100_000) if is_prompt and rng.random() < 0.4 else 0,
    }


def draw_choices(rng: random.Random) -> Record:
    any_size = (*STORED, spread(rng, 0.2, 4))
    drafts = rng.choice((0, 0, 0, 1, 4, 7))
    return {
        "kv_cache": rng.choice(("on", "on", "on", "off")),
        "attention": rng.choice(("flash", "flash", "sdpa", "naive")),
        "chunked_prefill": rng.choice((-1, -1, 0, 512, 8192, draw_length(rng, 20_000))),
        "fused_kernels": rng.choice(("on", "on", "off")),
        **{key: rng.choice(("auto", "on", "off")) for key in ("gemv", "graphs", "overlap")},
        "weight_bytes": rng.choice(any_size),
        "head_bytes": rng.choice((0.0, 0.0, *any_size)),
        "kv_bytes": rng.choice(any_size),
        "activation_bytes": rng.choice((4.0, 2.0, 2.0, 1.0)),
        "drafts": drafts,
        "acceptance": round(rng.random(), 3) if drafts else 0.0,
    }


def draw_hardware(rng: random.Random, activation_bytes: float) -> Record:
    """That of a data sheet, or one with its peaks whose other numbers could be any."""
    sheet = asdict(find_hardware(rng.choice(list(PEAKS)), activation_bytes))
    if rng.random() < 0.3:
        return sheet
    etas = ("gemm", "gemv", "attention_flops", "attention_bytes", "reduction")
    return sheet | {
        "name": "random",
        "kind": "calibrated",
        "launch_s": spread(rng, 1e-6, 2e-5),
        "library_s": spread(rng, 1e-6, 2e-5),
        "node_s": spread(rng, 3e-7, 2e-5),
        "library_node_s": spread(rng, 3e-7, 2e-5),
        "attention_launches": rng.choice((1.0, spread(rng, 1, 5))),
        "host_s": spread(rng, 1e-5, 2e-3),
        "host_row_s": rng.choice((0.0, spread(rng, 1e-7, 1e-4))),
        "host_token_s": rng.choice((0.0, spread(rng, 1e-8, 1e-6))),
        **{f"eta_{name}": spread(rng, 0.05, 1) for name in etas},
        "eta_elementwise": spread(rng, 0.1, 3),
        "gemm_rows": spread(rng, 0.1, 64),
        "attention_positions": spread(rng, 1, 256),
        "fastest": spread(rng, 0.5, 1),
        "slowest": spread(rng, 1, 3),
    }


def bounded(choices: Record, device: str, tokens: int) -> Record:
    """`choices` with a chunk so large that `tokens` take no more than `MOST_STEPS`."""
    chunk = choices["chunked_prefill"]
    size = (8192 if device == "cuda" else 512) if chunk < 0 else chunk or tokens
    return choices if tokens <= MOST_STEPS * size else choices | {"chunked_prefill": 0}


def draw_budget(rng: random.Random, index: int) -> Record:
    shape, workload, choices = draw_shape(rng, index), draw_workload(rng), draw_choices(rng)
    hardware = draw_hardware(rng, choices["activation_bytes"])
    tokens = workload["length"] * workload["batch"]
    return {
        "spec": shape,
        "workload": workload,
        "choices": bounded(choices, hardware["device"], tokens),
        "hardware": hardware,
    }


def draw_crossover(rng: random.Random, index: int) -> Record:
    """A question without a length, but with the longest that is looked at."""
    given, limit = draw_budget(rng, index), rng.choice(LIMITS)
    workload, hardware = given["workload"], given["hardware"]
    del workload["length"]
    workload["batch"] = min(workload["batch"], 8)
    choices = bounded(given["choices"], hardware["device"], 10 * limit * workload["batch"])
    return given | {"choices": choices, "limit": limit}


def edges() -> list[Record]:
    """What a draw may miss: both sides of where steps are replayed and of where `gemv` pays."""
    plain = asdict(Choices())
    prompts = [
        {"phase": "prefill", "length": length, "batch": batch, "prefix": 0}
        for length, batch in REPLAYED
    ]
    rows = [
        {"phase": "decode", "length": 1000, "batch": batch, "prefix": 0} for batch in FEW_BATCHES
    ]
    asked = [
        *((work, {"graphs": graphs}) for work in prompts for graphs in ("on", "off")),
        *((work, {"fused_kernels": fused}) for work in rows for fused in ("on", "off")),
        ({**rows[0], "length": GRAPHED_TOKENS}, {"kv_cache": "off"}),
        ({**rows[0], "length": GRAPHED_TOKENS + 1}, {"kv_cache": "off"}),
    ]
    return [
        {"spec": shape, "workload": work, "choices": plain | changes, "hardware": SLOW_HOST}
        for shape in SHAPES.values()
        for work, changes in asked
    ]


# What is found


def spec_of(given: Record) -> ModelSpec:
    return ModelSpec(
        **given["spec"] | {"local_layers": tuple(given["spec"]["local_layers"])}, **REST
    )


def budgets_at(given: Record, choices: Choices | None = None) -> Callable[[int], Budget]:
    """From a length to the budget of the question, or of the same with other choices."""
    spec, hardware = spec_of(given), Hardware(**given["hardware"])
    choices = choices or Choices(**given["choices"])

    @functools.cache
    def at(length: int) -> Budget:
        workload = Workload(**given["workload"] | {"length": length})
        return budget(spec, workload, choices, hardware)

    return at


def budget_of(given: Record) -> Record:
    """Every stage, their sum and attention's part in it."""
    found = budgets_at(given)(given["workload"]["length"])
    return {
        "stages": {stage: numbers(cost) for stage, cost in found.stages.items()},
        "seconds": found.seconds,
        "share": found.share(),
        "tokens_per_row": found.tokens_per_row,
    }


def numbers(cost: Cost) -> list[float | str]:
    """One stage, its names left out to keep the file small."""
    return [cost.flops, cost.bytes, cost.launches, cost.seconds, cost.bound]


def crossings_of(given: Record) -> Record:
    """S05, S10 and S50."""
    answers = modelled(budgets_at(given), Hardware(**given["hardware"]), given["limit"])
    return {name: answer._asdict() for name, answer in answers.items()}


def effects_of(given: Record) -> Record:
    """What each switch that is on does to S10."""
    choices = Choices(**given["choices"])
    return effects(lambda these: budgets_at(given, these), choices, given["limit"])


def switches() -> list[Record]:
    """Of the switchboard, what turning a switch off takes."""
    return [
        {"key": feature.key, "off": feature.off, "conflicts": list(feature.conflicts)}
        for feature in FEATURES
    ]


def words() -> dict[str, list[str]]:
    """The switches that bear on cost, and what each can be."""
    fields = {field.name: field.metadata["choices"] for field in dataclasses.fields(Choices)}
    return {name: list(choices) for name, choices in fields.items() if choices}


def sheets() -> Record:
    """The data sheets, and what goes with them."""
    return {
        "slowest": SLOWEST,
        "starts": {device: starts._asdict() for device, starts in STARTS.items()},
        "peaks": {name: peak._asdict() for name, peak in PEAKS.items()},
    }


def machines() -> list[Record]:
    """Each data sheet as a machine that multiplies numbers of so many bytes."""
    return [
        {"name": name, "activation_bytes": size, "hardware": asdict(find_hardware(name, size))}
        for name in PEAKS
        for size in (4.0, 2.0, 1.0)
    ]


def vectors(seed: int = SEED) -> Record:
    rng = random.Random(seed)
    budgets = [*(draw_budget(rng, i) for i in range(NUM_BUDGETS)), *edges()]
    crossovers = [draw_crossover(rng, i) for i in range(NUM_CROSSOVERS)]
    changes = [draw_crossover(rng, i) for i in range(NUM_EFFECTS)]
    return {
        "stages": MODELLED,
        "columns": ("flops", "bytes", "launches", "seconds", "bound"),
        "defaults": asdict(Choices()),
        "machines": machines(),
        "budgets": [{"given": given, "found": budget_of(given)} for given in budgets],
        "crossovers": [{"given": given, "found": crossings_of(given)} for given in crossovers],
        "effects": [{"given": given, "found": effects_of(given)} for given in changes],
    }


if __name__ == "__main__":
    for path in (VECTORS, SHEETS):
        path.parent.mkdir(parents=True, exist_ok=True)
    VECTORS.write_text(json.dumps(vectors(), separators=(",", ":")) + "\n")
    SHEETS.write_text(json.dumps(sheets(), indent=2) + "\n")
    SWITCHES.write_text(json.dumps(switches(), indent=2) + "\n")
    WORDS.write_text(json.dumps(words(), indent=2) + "\n")
    print(f"{VECTORS}: {VECTORS.stat().st_size / 1e6:.2f} MB\n{SHEETS}\n{SWITCHES}\n{WORDS}")
