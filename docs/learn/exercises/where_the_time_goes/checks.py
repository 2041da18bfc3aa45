"""The counts are held against recorded runs of an H100, and the bound against their times."""

from __future__ import annotations

import json
import statistics
from pathlib import Path

BENCH = Path(__file__).resolve().parents[4] / "bench"
MODELS = ("qwen3-0.6b", "llama-3.1-8b")


def config_of(model: str) -> dict:
    return json.loads((BENCH / "models" / model / "config.json").read_text(encoding="utf-8"))


def run_of(model: str) -> dict:
    path = BENCH / "results" / f"run-{model}-h100.json"
    return json.loads(path.read_text(encoding="utf-8"))


def counts_weights(answer) -> None:
    """A step's weights are counted right."""
    for model in MODELS:
        found, expected = answer.weight_bytes(config_of(model)), run_of(model)["weight_bytes"]
        off = abs(found / expected - 1)
        assert off < 0.001, f"{model}: {found:,} bytes; the engine reads {expected:,}"


def counts_keys_and_values(answer) -> None:
    """A token's keys and values are counted right."""
    for model in MODELS:
        found, expected = answer.kv_bytes(config_of(model)), run_of(model)["kv_bytes_per_token"]
        assert found == expected, f"{model}: {found:,} bytes; the engine stores {expected:,}"


def bounds_every_step(answer) -> None:
    """No recorded step is faster than the bound, and the 8B model's are close to it."""
    for model in MODELS:
        run = run_of(model)
        for cell in run["cells"]:
            if cell["phase"] == "decode":
                length = cell["length"]
                bound = answer.bound_ms(config_of(model), length, run["limits"]["read_bytes_s"])
                step = statistics.median(cell["wall_ns"]) / 1e6
                assert bound < step, (
                    f"{model} at {length}: bound {bound:.3f} ms, measured {step:.3f}"
                )
                if model == "llama-3.1-8b":
                    assert bound > 0.8 * step, (
                        f"{model} at {length}: a bound of {bound:.3f} ms leaves things out; a step "
                        f"took {step:.3f}"
                    )


def finds_the_length(answer) -> None:
    """The length is found from which keys and values are half of what is read."""
    for model in MODELS:
        config = config_of(model)
        length = answer.attention_length(config, 0.5)
        kv, weights = length * answer.kv_bytes(config), answer.weight_bytes(config)
        assert abs(kv / (kv + weights) - 0.5) < 1e-6, (
            f"{model}: at {length:,.0f} tokens they are {kv / (kv + weights):.0%}"
        )
        tenth = answer.attention_length(config, 0.1)
        assert abs(tenth * 9 / length - 1) < 1e-6, "a tenth of the bytes is reached elsewhere"


CHECKS = [counts_weights, counts_keys_and_values, bounds_every_step, finds_the_length]
