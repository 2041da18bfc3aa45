#!/usr/bin/env python
"""The engine on one NVIDIA GPU: throughput, latency, prefill, attention and start, with limits.

    python bench/gpu.py [--part nano --part prefill ...] [--json bench/results/gpu-h100.json]

Models are random weights of the shapes in bench/models. Every figure is the median of its samples,
after a run that does not count (compilation, graphs); the samples are kept. Limits, copy and matrix
rate, are measured in the same run, and a file holds one run: with `--part`, those parts alone.

The nano workload is nano-vllm's: 256 requests with prompts and answers of 100 to 1024 tokens,
temperature 0.6, all at once, 133,966 tokens of output. `start` is a fresh process: from its launch
to its first token, once with an empty kernel cache and once with what the first one left there;
Python's modules are compiled before either, as pip does when it installs.
"""

from __future__ import annotations

import argparse
import gc
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

import environment as shared
from pellucid import LLM, SamplingParams
from pellucid.process import own_process
from pellucid.request import raise_errors

HERE = Path(__file__).parent
QWEN, LLAMA = str(HERE / "models" / "qwen3-0.6b"), str(HERE / "models" / "llama-3.1-8b")
MAX_CHUNK = 16384
START_REPEATS = 1
"""A start is half a minute of the device's time for all four."""

Samples = dict[str, list[float]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--part", action="append", choices=PARTS, help="default: all")
    parser.add_argument("--json", metavar="FILE")
    parser.add_argument("--commit", default="", help="of the sources, where git does not know")
    parser.add_argument("--start-child", metavar="MODEL", help=argparse.SUPPRESS)
    args = parser.parse_args()
    own_process()
    if args.start_child:
        start_child(args.start_child)
        return
    if not torch.cuda.is_available():
        sys.exit("bench/gpu.py: torch finds no usable GPU here")
    record = {"environment": environment(args.commit), "limits": limits(), "samples": {}}
    for part in args.part or PARTS:
        begin = time.perf_counter()
        for name, samples in PARTS[part]().items():
            record["samples"][name] = samples
            print(f"{name:24} {line(samples)}", flush=True)
        gc.collect()
        torch.cuda.empty_cache()
        print(f"  ({part}: {time.perf_counter() - begin:.0f} s)", flush=True)
    record["figures"] = {k: statistics.median(v) for k, v in record["samples"].items()}
    if args.json:
        shared.write_json(args.json, record)


def environment(commit: str) -> dict[str, Any]:
    """The machine, its driver and clocks."""
    found = shared.environment()
    query = "name,driver_version,clocks.max.sm,clocks.max.memory,power.limit,memory.total"
    done = subprocess.run(
        ["nvidia-smi", f"--query-gpu={query}", "--format=csv,noheader"],
        capture_output=True,
        text=True,
    )
    values = done.stdout.strip().split("\n")[0].split(", ") if done.returncode == 0 else []
    found["gpu_details"] = dict(zip(query.split(","), values, strict=False))
    found["versions"]["triton"] = __import__("triton").__version__
    return {**found, "commit": commit or found["commit"]}


def limits() -> dict[str, float]:
    from pellucid.explore.kernels import gpu_limits

    found = gpu_limits()
    print(f"copy {found.copy_bytes_s / 1e12:.2f} TB/s, matrix product "
          f"{found.matmul_flop_s / 1e12:.0f} TFLOP/s", flush=True)  # fmt: skip
    return {"copy_bytes_s": found.copy_bytes_s, "matmul_flop_s": found.matmul_flop_s}


def line(samples: list[float]) -> str:
    low, high = shared.spread(samples)
    return f"{statistics.median(samples):12.3f}   ({low:.3f} to {high:.3f}, {len(samples)})"


def engine(model: str, **options: Any) -> LLM:
    return LLM(model, load_format="dummy", device="cuda", **options)


def prompts(count: int, length: int, seed: int = 0) -> list[list[int]]:
    rng = random.Random(seed)
    return [[rng.randrange(10000) for _ in range(length)] for _ in range(count)]


def seconds(llm: LLM, ids: list[list[int]], params: Any) -> float:
    begin = time.perf_counter()
    raise_errors(llm.generate(ids, params))
    return time.perf_counter() - begin


def repeated(run: Callable[[], float], repeats: int, warmup: int = 1) -> list[float]:
    return [run() for _ in range(warmup + repeats)][warmup:]


def greedy(num_tokens: int) -> SamplingParams:
    return SamplingParams(temperature=0, max_tokens=num_tokens, ignore_eos=True)


def nano() -> Samples:
    llm = engine(QWEN, max_seqs=256, chunked_prefill=MAX_CHUNK, context_length=4096)
    rng = random.Random(0)
    ids = [[rng.randint(0, 10000) for _ in range(rng.randint(100, 1024))] for _ in range(256)]
    lengths = [rng.randint(100, 1024) for _ in range(256)]
    assert sum(lengths) == 133_966
    params = [SamplingParams(temperature=0.6, ignore_eos=True, max_tokens=n) for n in lengths]
    times = repeated(lambda: seconds(llm, ids, params), repeats=3)
    return {"nano_tok_s": [sum(lengths) / t for t in times]}


def qwen_b1() -> Samples:
    llm = engine(QWEN)
    times = repeated(lambda: seconds(llm, prompts(1, 128), greedy(512)), repeats=7)
    return {"qwen_b1_tok_s": [512 / t for t in times]}


def prefill_s(llm: LLM, length: int) -> float:
    """Seconds from a prompt of so many tokens to its first new one."""
    return seconds(llm, prompts(1, length), greedy(1))


def llama8b() -> Samples:
    llm = engine(LLAMA, chunked_prefill=MAX_CHUNK)
    one = repeated(lambda: seconds(llm, prompts(1, 128), greedy(256)), repeats=5)
    found = {"llama8b_b1_tok_s": [256 / t for t in one]}
    # Each workload for itself: under a long load the card gets hot and a percent or two slower.
    for length in (2048, 8192, 16000):
        times = repeated(partial(prefill_s, llm, length), 7, warmup=2)
        found[f"llama8b_prefill_{length}_ms"] = [t * 1e3 for t in times]
    many = repeated(lambda: seconds(llm, prompts(64, 512), greedy(256)), repeats=3)
    found["llama8b_b64_tok_s"] = [64 * 256 / t for t in many]
    return found


def attention() -> Samples:
    from torch.nn.attention import SDPBackend

    from pellucid.explore import kernels

    rates = kernels.gpu_limits()
    found: Samples = {}
    for name, tokens in (("8k", 8192), ("16k", 16384)):
        for rival in (SDPBackend.FLASH_ATTENTION, SDPBackend.CUDNN_ATTENTION):
            t = kernels.prefill_timing(tokens, 32, 32, rates, rival)
            short = "fa2" if rival == SDPBackend.FLASH_ATTENTION else "cudnn"
            found[f"attn_{name}_{short}_tflops"] = [t.work / t.rival_us / 1e6]
        found[f"attn_{name}_tflops"] = [t.work / us / 1e6 for us in t.samples_us]
    for backend in ("naive", "flash"):
        for tokens in (1024, 2048, 4096, 8192):
            mib = kernels.attention_memory(backend, tokens) / 2**20
            found[f"attn_memory_{backend}_{tokens}_mib"] = [mib]
    t = kernels.decode_timing(64, 4096, 32, 8, rates)
    found["decode_attn_bw_share"] = [t.work / us * 1e6 / rates.copy_bytes_s for us in t.samples_us]
    return found


def start() -> Samples:
    found: Samples = {}
    with tempfile.TemporaryDirectory() as bytecode:
        # An installer compiles what it installs, but not every machine was set up by one. Here the
        # modules of a start are compiled beforehand in any case; kernels are not.
        first_token(QWEN, bytecode, bytecode)
        for name, model in (("qwen", QWEN), ("llama8b", LLAMA)):
            for kind in ("", "_warm"):
                found[f"start_{name}{kind}_s"] = []
            for _ in range(START_REPEATS):
                with tempfile.TemporaryDirectory() as cache:
                    found[f"start_{name}_s"].append(first_token(model, cache, bytecode))
                    found[f"start_{name}_warm_s"].append(first_token(model, cache, bytecode))
    return found


def first_token(model: str, cache: str, bytecode: str) -> float:
    """Seconds from launching a process to its first token; kernels are cached in `cache`, compiled
    Python modules in `bytecode`."""
    variables = {
        **os.environ,
        "TRITON_CACHE_DIR": cache,
        "PYTHONPYCACHEPREFIX": bytecode,
        "PYTHONUNBUFFERED": "1",
    }
    variables.pop("PYTHONDONTWRITEBYTECODE", None)
    begin = time.perf_counter()
    child = subprocess.Popen(
        [sys.executable, __file__, "--start-child", model],
        env=variables,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    words = child.stdout.readline()
    elapsed = time.perf_counter() - begin
    if child.wait() or not words.startswith("first token"):
        raise RuntimeError(f"the start of {model} failed: {words}")
    return elapsed


def start_child(model: str) -> None:
    llm = engine(model)
    for output in llm.stream(prompts(1, 128)[0], greedy(8)):
        print("first token", output.token_ids, flush=True)
        return


PARTS: dict[str, Callable[[], Samples]] = {
    "nano": nano,
    "qwen_b1": qwen_b1,
    "llama8b": llama8b,
    "attention": attention,
    "start": start,
}

if __name__ == "__main__":
    main()
