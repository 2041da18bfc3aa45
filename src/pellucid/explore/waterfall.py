"""Adding the optimizations one at a time, the best first: what each still buys beside the others.

Problem: "twice as fast" is true of an optimization only next to others. When attention takes a
tenth of a token's time, halving it buys a twentieth; the same kernel bought far more before the
rest became fast. So a sum of separate gains overstates what they buy together.

Idea: begin with everything off. In each round every switch that is left is tried on top of what is
there, in turns with it; the one that gains most stays. The first round is each switch *alone*; the
rounds together are the *greedy* order, a way up on which each step says what its switch buys there.
The product of the gains alone, beside the gain of the whole way, says by how much adding up
overstates. Gains are times before over times after, for the batch and for a single sequence; the
gain that decides is the geometric mean of both.

Trade-off: n switches take n (n + 1) / 2 comparisons. A switch that does not work without another
waits until that one is there.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping
from typing import Any

import torch

from pellucid.config import EngineConfig
from pellucid.errors import InputError
from pellucid.explore.arms import Arm, ArmWorkload, free_memory, in_turns, with_changes
from pellucid.explore.runfile import interval
from pellucid.features import FEATURES, excluded
from pellucid.model.checkpoint import Checkpoint


def climb(
    config: EngineConfig,
    checkpoint: Checkpoint,
    work: ArmWorkload,
    wanted: Mapping[str, str],
    into: dict[str, Any],
    progress: Callable[[str], None],
) -> None:
    """Measure the way up from everything off to `wanted` (switch → value); rows go to `into`.

    into: `alone` and `greedy` get a row for each switch, `notes` a line for each left out.
    """
    settings = {feature.key: feature.off for feature in FEATURES}
    left = [key for key, value in wanted.items() if value != settings[key]]
    into |= {"alone": [], "greedy": [], "notes": []}
    while left:
        try:
            base = Arm(with_changes(config, settings), checkpoint, work)
        except (InputError, torch.OutOfMemoryError) as error:
            into["notes"].append(f"what they would be added to does not run here: {error}")
            break
        tried = []
        for key in possible(left, settings, wanted):  # a new list: `left` may lose some
            row = gain_of(base, config, checkpoint, work, {**settings, key: wanted[key]}, key)
            if isinstance(row, str):
                into["notes"].append(f"{key}: {row}")
                left.remove(key)
                continue
            progress(f"{len(into['greedy'])} on, {key}: {row['gain']:.2f}x")
            tried.append(row)
            if not into["greedy"]:
                into["alone"].append(row)
        del base
        free_memory()
        if not tried:
            break
        best = max(tried, key=lambda row: float(row["gain"]))
        into["greedy"].append(best)
        left.remove(best["name"])
        settings[best["name"]] = wanted[best["name"]]
    into["notes"] += [f"{key}: not reached" for key in left]
    into["overstated"] = overstatement(into["alone"], into["greedy"])


def possible(left: list[str], settings: Mapping[str, str], wanted: Mapping[str, str]) -> list[str]:
    """The switches that can be turned on beside `settings`."""
    return [key for key in left if not excluded(key, {**settings, key: wanted[key]})]


def gain_of(
    base: Arm,
    config: EngineConfig,
    checkpoint: Checkpoint,
    work: ArmWorkload,
    settings: Mapping[str, str],
    key: str,
) -> dict[str, Any] | str:
    """What `key`, the one difference between `base` and `settings`, buys; or why it cannot run."""
    try:
        other = Arm(with_changes(config, settings), checkpoint, work)
        before, after = in_turns(base, other, work.repeats)
    except (InputError, torch.OutOfMemoryError) as error:
        return str(error).splitlines()[0]
    finally:
        free_memory()
    rates = zip(after.batch.tokens_per_s(), before.batch.tokens_per_s(), strict=True)
    paces = zip(before.single.ms_per_token(), after.single.ms_per_token(), strict=True)
    batch, single = ([a / b for a, b in pairs] for pairs in (rates, paces))
    return {
        "name": key,
        "value": settings[key],
        "gain": math.sqrt(statistics.median(batch) * statistics.median(single)),
        "batch": gain_record(batch),
        "single": gain_record(single),
        "batch_tok_s": statistics.median(after.batch.tokens_per_s()),
        "single_ms_per_token": statistics.median(after.single.ms_per_token()),
        "output_len": {"batch": after.batch.output_len, "single": after.single.output_len},
    }


def gain_record(gains: list[float]) -> dict[str, Any]:
    found = interval(gains)
    return {"median": found.value, "lo": found.lo, "hi": found.hi, "samples": gains}


def overstatement(alone: list[dict[str, Any]], greedy: list[dict[str, Any]]) -> dict[str, float]:
    """The gains alone multiplied, and the gain of the whole way; for the same switches."""
    names = {row["name"] for row in alone}
    product = math.prod(row["gain"] for row in alone)
    together = math.prod(row["gain"] for row in greedy if row["name"] in names)
    return {"product_alone": product, "together": together}
