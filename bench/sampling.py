#!/usr/bin/env python
"""What sampling parameters cost on a GPU: tokens a second of a full batch beside temperature alone.

    python bench/sampling.py [--json bench/results/sampling-h200.json]

64 sequences of Qwen3-0.6B's shape with random weights, prompts of 64 tokens, answers of 256. The
variants run in turns, `ROUNDS` times each after a round that does not count, and are compared
within a round: a ratio is the median over rounds. `one row of 64` has top-p in one sequence, the
others have their temperature alone. Random weights make almost flat distributions, in which top-p
0.95 keeps most of the vocabulary: a hard case for the search.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import torch

import environment as shared
from pellucid import LLM, SamplingParams
from pellucid.process import own_process
from pellucid.request import raise_errors

MODEL = str(Path(__file__).parent / "models" / "qwen3-0.6b")
ROWS, PROMPT, ANSWER, ROUNDS = 64, 64, 256, 5

PLAIN = "temperature"
VARIANTS: dict[str, dict[str, Any]] = {
    PLAIN: {},
    "greedy": {"temperature": 0.0},
    "top_p 0.95": {"top_p": 0.95},
    "top_k 50": {"top_k": 50},
    "min_p 0.05": {"min_p": 0.05},
    "repetition_penalty 1.1": {"repetition_penalty": 1.1},
    "logit_bias, 8 tokens": {"logit_bias": dict.fromkeys(range(8), 1.0)},
    "min_tokens 256": {"min_tokens": ANSWER},
    "logprobs 5": {"logprobs": 5},
    "everything": {
        "top_p": 0.95, "top_k": 50, "repetition_penalty": 1.1, "logprobs": 5, "min_tokens": 9,
    },
}  # fmt: skip
ODD = "one row of 64: top_p 0.95"


def params_of(variant: str) -> list[SamplingParams]:
    """One for each row."""
    odd = variant == ODD
    more = VARIANTS[PLAIN if odd else variant]
    common: dict[str, Any] = {"temperature": 0.8, "max_tokens": ANSWER, "ignore_eos": True}
    rows = [SamplingParams(**{**common, "seed": row, **more}) for row in range(ROWS)]
    if odd:
        rows[ROWS // 2] = SamplingParams(**common, seed=ROWS // 2, top_p=0.95)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", metavar="FILE")
    parser.add_argument("--commit", default="", help="of the sources, where git does not know")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    args = parser.parse_args()
    own_process()
    if not torch.cuda.is_available():
        sys.exit("bench/sampling.py: torch finds no usable GPU here")
    llm = LLM(MODEL, load_format="dummy", context_length=1024, max_seqs=ROWS)
    rng = random.Random(7)
    prompts = [rng.choices(range(llm.engine.info.vocab_size), k=PROMPT) for _ in range(ROWS)]
    names = [*VARIANTS, ODD]
    samples: dict[str, list[float]] = {name: [] for name in names}
    for number in range(args.rounds + 1):
        for name in names:
            begin = time.perf_counter()
            outputs = raise_errors(llm.generate(prompts, params_of(name)))
            seconds = time.perf_counter() - begin
            assert all(len(output.token_ids) == ANSWER for output in outputs)
            del outputs  # or the next variant's time would have the end of 82,000 log-probabilities
            if number:
                samples[name].append(ROWS * ANSWER / seconds)
    ratios = {
        name: statistics.median(a / b for a, b in zip(samples[name], samples[PLAIN], strict=True))
        for name in names
    }
    print(f"{torch.cuda.get_device_name()}: {ROWS} sequences x {ANSWER} tokens")
    for name in names:
        low, mid, high = min(samples[name]), statistics.median(samples[name]), max(samples[name])
        print(f"{name:28} {mid:8.0f} tok/s  ({low:.0f} to {high:.0f})  {ratios[name]:.3f}")
    if args.json:
        environment = {**shared.environment(), "gpu": torch.cuda.get_device_name()}
        environment["commit"] = args.commit or environment["commit"]
        record = {"environment": environment, "samples": samples, "ratios": ratios}
        shared.write_json(args.json, record)


if __name__ == "__main__":
    main()
