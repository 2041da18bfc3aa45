"""Latency and throughput of an engine, beside the memory bandwidth of the same minutes.

Prompts are random token ids of given lengths and answers ignore the end of sequence, so that every
run does the same work. Raw samples are kept; the table shows medians.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch

from pellucid.engine import Engine
from pellucid.explore.hardware import environment, read_bandwidth
from pellucid.request import Request, SamplingParams, raise_errors, to_builtins

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchWorkload:
    """What to run: `num_prompts` prompts at once, lengths in tokens."""

    num_prompts: int
    prompt_len: int
    output_len: int
    repeats: int = 5
    warmup: int = 1
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Sample:
    """One repeat, in seconds."""

    first_token_s: float
    """Until every prompt has its first token."""
    total_s: float
    num_decoded: int
    """Tokens that came after `first_token_s`, when only decode steps are left."""


def run_bench(engine: Engine, work: BenchWorkload, progress: Progress) -> dict[str, Any]:
    """Run the workload `repeats` times; returns the report as it goes to JSON."""
    device = torch.device(engine.info.device)
    bandwidths, samples = [], []
    for repeat in range(work.warmup + work.repeats):
        kind = "warm-up" if repeat < work.warmup else f"repeat {repeat - work.warmup + 1}"
        progress(f"{kind} of {work.repeats}")
        sample = run_once(engine, work, repeat)
        if repeat >= work.warmup:
            samples.append(sample)
            bandwidths.append(read_bandwidth(device, repeats=1))
    return bench_report(engine, work, samples, statistics.median(bandwidths), bandwidths)


def run_once(engine: Engine, work: BenchWorkload, repeat: int) -> Sample:
    """All prompts at once, to the end."""
    rng = random.Random(work.seed * 1000 + repeat)
    params = SamplingParams(temperature=0, max_tokens=work.output_len, ignore_eos=True)
    vocab = engine.info.vocab_size
    begin = time.perf_counter()
    for index in range(work.num_prompts):
        ids = [rng.randrange(vocab) for _ in range(work.prompt_len)]
        request = Request(id=f"bench-{repeat}-{index}", prompt_token_ids=ids, params=params)
        engine.add(request, last=index == work.num_prompts - 1)
    started: set[str] = set()
    first, num_decoded = 0.0, 0
    while engine.has_work:
        outputs = raise_errors(engine.step())
        num_decoded += len(outputs)
        fresh = {output.request_id for output in outputs} - started
        if fresh:
            started |= fresh
            first, num_decoded = time.perf_counter() - begin, 0
    return Sample(first, time.perf_counter() - begin, num_decoded)


def bench_report(
    engine: Engine,
    work: BenchWorkload,
    samples: list[Sample],
    bandwidth: float,
    bandwidths: list[float],
) -> dict[str, Any]:
    """Medians, the limit beside them, and everything that they were made from."""
    first = statistics.median(s.first_token_s for s in samples)
    total = statistics.median(s.total_s for s in samples)
    rates = [s.num_decoded / (s.total_s - s.first_token_s) for s in samples if s.num_decoded]
    rate = statistics.median(rates) if rates else 0.0
    step_bytes = bytes_per_step(engine, work)
    limit = work.num_prompts * bandwidth / step_bytes
    return {
        "environment": environment(),
        "engine": to_builtins(engine.info),
        "config": asdict(engine.config),
        "workload": asdict(work),
        "samples": [asdict(s) for s in samples],
        "read_bandwidth_gb_s": [round(b / 1e9, 2) for b in bandwidths],
        "median": {
            "first_token_s": first,
            "total_s": total,
            "output_tok_s": work.num_prompts * work.output_len / total,
            "prefill_tok_s": work.num_prompts * work.prompt_len / first,
            "decode_tok_s": rate,
            "decode_limit_tok_s": limit,
            "decode_limit_share": rate / limit,
            "bytes_per_decode_step": step_bytes,
        },
    }


def bytes_per_step(engine: Engine, work: BenchWorkload) -> int:
    """What a decode step in the middle of the answers must read: all weights, all stored KV."""
    length = work.prompt_len + work.output_len // 2
    stored = work.num_prompts * length * engine.info.kv_bytes_per_token
    return engine.info.weight_bytes + stored


def table(result: dict[str, Any]) -> str:
    """The report as lines to read."""
    m, samples = result["median"], result["samples"]
    totals = [s["total_s"] for s in samples]
    lines = [
        f"first token   {m['first_token_s'] * 1e3:9.1f} ms",
        f"prefill       {m['prefill_tok_s']:9.1f} tokens/s",
        f"decode        {m['decode_tok_s']:9.1f} tokens/s   {m['decode_limit_share']:.0%} of the "
        f"{m['decode_limit_tok_s']:.0f} that reading {m['bytes_per_decode_step'] / 1e6:.0f} MB a "
        "step allows",
        f"output        {m['output_tok_s']:9.1f} tokens/s   over {m['total_s']:.2f} s "
        f"({min(totals):.2f} to {max(totals):.2f}, {len(totals)} repeats)",
    ]
    return "\n".join(lines)
