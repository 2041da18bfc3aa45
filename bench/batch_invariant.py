#!/usr/bin/env python
"""What `batch_invariant` costs on a CPU: speed with it beside speed without, in turns.

    python bench/batch_invariant.py [--model smollm2] [--json bench/results/batch-invariant.json]

Greedy answers to 1, 4 and 16 prompts of 16 tokens, and one prompt of 512 tokens with a single token
of answer. Without the option the engine runs as `serve` does by default. Each round measures both,
the order changing, and a ratio is that of one round; the median and extremes over the rounds count.
"""

from __future__ import annotations

import argparse
import random
import time
from typing import TYPE_CHECKING

from pellucid.process import own_process

if TYPE_CHECKING:
    from pellucid import LLM

WORK = {"1 answer": (1, 16, 64), "4 answers": (4, 16, 32), "16 answers": (16, 16, 16),
        "prompt of 512": (1, 512, 1)}  # fmt: skip
"""Name → prompts, tokens of each, tokens of each answer."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json", metavar="FILE")
    args = parser.parse_args()
    own_process()  # before torch is imported
    import environment as shared
    from pellucid import LLM

    engines = {
        mode: LLM(args.model, batch_invariant=mode, device="cpu", memory=0.5, context_length=2048)
        for mode in ("off", "on")
    }
    samples: dict[str, dict[str, list[float]]] = {
        name: {mode: [] for mode in engines} for name in WORK
    }
    for number in range(args.rounds + 1):  # the first does not count
        for name, work in WORK.items():
            for mode in list(engines)[:: 1 if number % 2 else -1]:
                seconds = run(engines[mode], *work, seed=number)
                if number:
                    samples[name][mode].append(seconds)
    ratios = {
        name: [off / on for off, on in zip(found["off"], found["on"], strict=True)]
        for name, found in samples.items()
    }
    for name, found in ratios.items():
        low, high = shared.spread(found)
        print(f"{name:14} {shared.median(found):.2f} times the speed  ({low:.2f} to {high:.2f})")
    if args.json:
        record = {
            "environment": shared.environment(),
            "settings": {"model": args.model},
            "dtype": {mode: llm.engine.info.dtype for mode, llm in engines.items()},
            "seconds": samples,
            "ratios": {name: shared.summary(found) for name, found in ratios.items()},
        }  # fmt: skip
        shared.write_json(args.json, record)


def run(llm: LLM, count: int, length: int, num_tokens: int, seed: int) -> float:
    """Seconds that the answers to `count` prompts take."""
    from pellucid import SamplingParams
    from pellucid.request import raise_errors

    rng = random.Random(seed)
    prompts = [[rng.randrange(100, 40_000) for _ in range(length)] for _ in range(count)]
    params = SamplingParams(temperature=0, max_tokens=num_tokens, ignore_eos=True)
    begin = time.perf_counter()
    raise_errors(llm.generate(prompts, params))
    return time.perf_counter() - begin


if __name__ == "__main__":
    main()
