"""`pellucid bench`: latency and throughput, beside the limit of this machine."""

from __future__ import annotations

import argparse
import sys
from importlib.util import find_spec

import torch

from pellucid.cli.common import add_config_flags, config_from, write_json
from pellucid.cli.parser import Parser
from pellucid.engine import Engine
from pellucid.errors import InputError
from pellucid.explore.bench import BenchWorkload, run_bench, table
from pellucid.explore.hardware import environment

EXAMPLES = """examples:
  pellucid bench latency                  one request at a time, beside the memory's limit
  pellucid bench throughput --num-prompts 64 --json throughput.json
  pellucid bench kernels                  each GPU kernel beside its limit and its rival"""


def add_arguments(parser: Parser) -> None:
    parser.usage = "%(prog)s WHAT [options]"
    kinds = parser.add_subparsers(
        title="what to measure", metavar="WHAT", prog=parser.prog, required=True
    )
    latency = kinds.add_parser("latency", help="one request at a time")
    throughput = kinds.add_parser("throughput", help="many requests at once")
    kernels = kinds.add_parser("kernels", help="each GPU kernel, its limit and its rival")
    for kind in (latency, throughput, kernels):
        kind.full = parser.full
        kind.usage = "%(prog)s [options]"
    _add_engine_flags(latency, num_prompts=1, prompt_len=128, output_len=128)
    _add_engine_flags(throughput, num_prompts=16, prompt_len=64, output_len=64)
    kernels.add_argument("--json", metavar="FILE", help="environment, limits, samples; - is stdout")
    kernels.set_defaults(bench=run_kernels)


def _add_engine_flags(
    parser: Parser, *, num_prompts: int, prompt_len: int, output_len: int
) -> None:
    for flag, default, text in (
        ("--num-prompts", num_prompts, "requests at once"),
        ("--prompt-len", prompt_len, "tokens of a prompt"),
        ("--output-len", output_len, "tokens of an answer"),
        ("--repeats", 5, "measured repeats"),
        ("--warmup", 1, "repeats before them that do not count"),
        ("--seed", 0, "of the random prompts"),
    ):
        parser.add_argument(flag, type=int, default=default, help=f"{text} (default: {default})")
    parser.add_argument("--json", metavar="FILE", help="environment, samples, medians; - is stdout")
    add_config_flags(parser)
    parser.set_defaults(bench=run_engine)


def run(args: argparse.Namespace) -> int:
    return int(args.bench(args))


def run_kernels(args: argparse.Namespace) -> int:
    reason = "" if torch.cuda.is_available() else "torch finds no usable GPU here"
    if not reason and find_spec("triton") is None:
        reason = "Triton is not installed"
    if reason:
        raise InputError(f"bench kernels measures the GPU's kernels, and {reason}")
    from pellucid.explore import kernels  # Triton loads only where it runs

    limits = kernels.gpu_limits()
    timings = []
    for timing in kernels.measure_kernels(limits):
        timings.append(timing)
        _progress(f"{timing.kernel} {timing.shape}")
    if args.json != "-":
        print(kernels.table(limits, timings))
    if args.json:
        write_json({"environment": environment(), **kernels.record(limits, timings)}, args.json)
    return 0


def run_engine(args: argparse.Namespace) -> int:
    names = ("num_prompts", "prompt_len", "output_len", "repeats", "warmup", "seed")
    numbers = {name: getattr(args, name) for name in names}
    for name in names[:4]:
        if numbers[name] < 1:
            raise InputError(f"{name} must be at least 1, not {numbers[name]}", param=name)
    engine = Engine(config_from(args))
    result = run_bench(engine, BenchWorkload(**numbers), _progress)
    print("\r\033[K" if sys.stderr.isatty() else "", end="", file=sys.stderr)
    if args.json != "-":
        print(table(result))
    if args.json:
        write_json(result, args.json)
    return 0


def _progress(text: str) -> None:
    end = "" if sys.stderr.isatty() else "\n"
    print(f"\r\033[K{text}" if sys.stderr.isatty() else text, end=end, file=sys.stderr, flush=True)
