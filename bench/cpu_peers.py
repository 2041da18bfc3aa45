"""pellucid, llama.cpp and transformers side by side on one CPU, in one run.

Problem: on a shared machine the same engine is twice as fast in one minute as in the next, so
figures from different runs cannot be compared.

Idea: each engine is loaded once in a worker process of its own, and the workers take turns: A, B,
C, then a probe of the memory's speed, then A, B, C again. Only one works at a time; the parent
looks at the processor time of the others meanwhile, so an engine that spins while it waits, and so
slows its rivals down, is found out (`idle_cpu`, the share of one core). Every round has a prompt of
its own, the same for all, so that nothing can be remembered from an earlier round.

What is measured, batch 1, greedy, end-of-sequence tokens ignored, default settings of each engine
but for the number of threads, which is that of the usable cores:

    decode    new tokens per second after the first one, prompt of 32 tokens, 128 new ones
    prefill   prompt tokens per second until the first new token, prompt of 512 tokens
    start     seconds from the start of a fresh `pellucid generate` to its first output (ours only)

Limits: decoding reads every weight once a token, so memory bandwidth over the bytes of the weights
is what it can reach: the file's bytes for ours and llama.cpp, 4 bytes a weight for transformers.

    python bench/cpu_peers.py --oracle-python ENV/bin/python [--model FILE.gguf] --json FILE.json

`--oracle-python` is the interpreter of an environment with torch, transformers, accelerate, gguf
and llama-cpp-python. Without it ours is measured alone.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import IO, Any, Protocol

DECODE_PROMPT, DECODE_NEW = 32, 128
PREFILL_PROMPT = 512
PEERS = ("llama.cpp", "transformers")
PACKAGES = ("pellucid", "llama-cpp-python", "transformers", "torch", "gguf", "numpy")
MAX_IDLE_CPU = 0.05
MAX_LOAD = 0.5


# ---------------------------------------------------------------- the worker's side of the pipe


class Engine(Protocol):
    """What a worker can do. Both verbs return seconds, decode the tokens as well."""

    def prefill(self, prompt: list[int]) -> float:
        """Seconds from the call to the first new token."""

    def decode(self, prompt: list[int], num_tokens: int) -> tuple[float, list[int]]:
        """Seconds from the first new token to the last one, and all of them."""


class Pellucid:
    def __init__(self, model: Path, threads: int) -> None:
        from pellucid.process import own_process

        own_process()  # before torch is imported
        from pellucid import LLM, SamplingParams
        from pellucid.request import raise_errors

        self.sound = raise_errors

        self.llm = LLM(str(model), threads=threads)
        self.params = SamplingParams

    def prefill(self, prompt: list[int]) -> float:
        params = self.params(temperature=0, max_tokens=1, ignore_eos=True)
        start = time.perf_counter()
        self.sound(self.llm.generate([prompt], params))
        return time.perf_counter() - start

    def decode(self, prompt: list[int], num_tokens: int) -> tuple[float, list[int]]:
        params = self.params(temperature=0, max_tokens=num_tokens, ignore_eos=True)
        start = time.perf_counter()
        output = self.sound(self.llm.generate([prompt], params))[0]
        wall = time.perf_counter() - start
        assert output.stats is not None
        # From our own clock only the time to the first token is taken; the end is the wall's.
        return wall - output.stats.first_token_s, output.token_ids


class LlamaCpp:
    """Evaluated token by token below its sampler, so that its Python side costs it nothing."""

    def __init__(self, model: Path, threads: int) -> None:
        import llama_cpp
        import numpy

        self.llm = llama_cpp.Llama(
            str(model), n_ctx=1024, n_threads=threads, n_threads_batch=threads, verbose=False
        )
        self.logits = llama_cpp.llama_get_logits_ith
        self.as_array = numpy.ctypeslib.as_array

    def argmax(self) -> int:
        logits = self.as_array(self.logits(self.llm.ctx, -1), shape=(self.llm.n_vocab(),))
        return int(logits.argmax())

    def prefill(self, prompt: list[int]) -> float:
        start = time.perf_counter()
        self.llm.reset()
        self.llm.eval(prompt)
        self.argmax()
        return time.perf_counter() - start

    def decode(self, prompt: list[int], num_tokens: int) -> tuple[float, list[int]]:
        self.prefill(prompt)
        tokens = [self.argmax()]
        start = time.perf_counter()
        while len(tokens) < num_tokens:
            self.llm.eval(tokens[-1:])
            tokens.append(self.argmax())
        return time.perf_counter() - start, tokens


class Transformers:
    """Its own `generate` with its key-value cache, in float32; a streamer notes the time."""

    def __init__(self, model: Path, threads: int) -> None:
        import torch
        from transformers import AutoModelForCausalLM

        torch.set_num_threads(threads)
        self.torch = torch
        self.model = AutoModelForCausalLM.from_pretrained(
            model.parent, gguf_file=model.name, dtype=torch.float32
        ).eval()
        # Without one generation never ends early.
        self.model.generation_config.eos_token_id = None

    def generate(self, prompt: list[int], num_tokens: int) -> tuple[list[float], list[int]]:
        """Times at which the tokens came, the start first, and the new tokens."""
        times = [time.perf_counter()]

        class Stopwatch:
            prompt = True

            def put(self, _: Any) -> None:
                if not self.prompt:
                    times.append(time.perf_counter())
                self.prompt = False

            def end(self) -> None:
                pass

        ids = self.torch.tensor([prompt])
        out = self.model.generate(
            ids,
            attention_mask=self.torch.ones_like(ids),
            max_new_tokens=num_tokens,
            do_sample=False,
            use_cache=True,
            streamer=Stopwatch(),
        )
        return times, out[0, len(prompt) :].tolist()

    def prefill(self, prompt: list[int]) -> float:
        times, _ = self.generate(prompt, 1)
        return times[1] - times[0]

    def decode(self, prompt: list[int], num_tokens: int) -> tuple[float, list[int]]:
        times, tokens = self.generate(prompt, num_tokens)
        return times[-1] - times[1], tokens


ENGINES: dict[str, Any] = {
    "pellucid": Pellucid,
    "llama.cpp": LlamaCpp,
    "transformers": Transformers,
}


def packages() -> dict[str, str]:
    """Versions in this worker's environment."""
    found = {}
    for name in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def work(name: str, model: Path, threads: int) -> None:
    """Load, say so, then answer one line of JSON with another until the pipe closes."""
    replies = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what libraries print must not mix with the replies
    start = time.perf_counter()
    engine: Engine = ENGINES[name](model, threads)
    hello = {"load_s": time.perf_counter() - start, "packages": packages()}
    print(json.dumps(hello), file=replies)
    for line in sys.stdin:
        order = json.loads(line)
        if order["verb"] == "prefill":
            reply = {"seconds": engine.prefill(order["prompt"]), "tokens": []}
        else:
            seconds, tokens = engine.decode(order["prompt"], order["num_tokens"])
            reply = {"seconds": seconds, "tokens": tokens}
        print(json.dumps(reply), file=replies)


# ---------------------------------------------------------------- the parent's side


class Worker:
    """One engine in a process of its own. Its messages go to a file, shown if it dies."""

    def __init__(self, name: str, python: str, model: Path, threads: int) -> None:
        import psutil

        self.name = name
        self.log: IO[str] = tempfile.TemporaryFile("w+")  # noqa: SIM115 (closed by close)
        options = ["--worker", name, "--model", str(model), "--threads", str(threads)]
        self.process = subprocess.Popen(
            [python, str(Path(__file__).resolve()), *options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
        )
        self.usage = psutil.Process(self.process.pid)
        hello = self._reply()
        self.load_s: float = hello["load_s"]
        self.packages: dict[str, str] = hello["packages"]

    def _reply(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            self.log.seek(0)
            tail = "".join(self.log.readlines()[-15:])
            raise SystemExit(f"{tail}\nthe {self.name} worker ended; its last messages are above")
        reply: dict[str, Any] = json.loads(line)
        return reply

    def ask(self, verb: str, prompt: list[int], num_tokens: int = 1) -> dict[str, Any]:
        assert self.process.stdin is not None
        order = {"verb": verb, "prompt": prompt, "num_tokens": num_tokens}
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        return self._reply()

    def cpu_seconds(self) -> float:
        times = self.usage.cpu_times()
        return float(times.user + times.system)

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()
        self.log.close()


def random_prompt(length: int, seed: int) -> list[int]:
    """Token ids that any vocabulary here has, beyond its special ones. Content costs no time."""
    source = random.Random(seed)
    return [source.randrange(1000, 40000) for _ in range(length)]


def start_seconds(python: str, model: Path) -> dict[str, float]:
    """A fresh process of our command line: seconds to its first output and to its end."""
    command = [python, "-m", "pellucid", "generate", "The capital of France is"]
    command += ["--model", str(model), "--temperature", "0", "--max-tokens", "8"]
    start = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        first = process.stdout.read(1)
        first_s = time.perf_counter() - start
        process.stdout.read()
        complaint = process.stderr.read().decode(errors="replace")
    if process.returncode or not first:
        raise SystemExit(f"{' '.join(command)} failed:\n{complaint}")
    return {"first_output_s": first_s, "end_s": time.perf_counter() - start}


class Bench:
    """The rounds and what they gave: raw samples per engine, in tokens per second."""

    def __init__(self, workers: list[Worker]) -> None:
        self.workers = workers
        self.decode: dict[str, list[float]] = {worker.name: [] for worker in workers}
        self.prefill: dict[str, list[float]] = {worker.name: [] for worker in workers}
        self.answers: dict[str, list[list[int]]] = {worker.name: [] for worker in workers}
        self.idle_cpu: dict[str, float] = {worker.name: 0.0 for worker in workers}
        self.idle_wall: dict[str, float] = {worker.name: 0.0 for worker in workers}

    def warm_up(self) -> None:
        for worker in self.workers:
            worker.ask("prefill", random_prompt(PREFILL_PROMPT, -1))
            worker.ask("decode", random_prompt(DECODE_PROMPT, -2), 8)

    def round(self, index: int) -> None:
        """One prefill and one decode of each; who begins moves on by one from round to round."""
        shift = index % len(self.workers)
        for worker in self.workers[shift:] + self.workers[:shift]:
            others = [other for other in self.workers if other is not worker]
            before = [other.cpu_seconds() for other in others]
            start = time.perf_counter()
            self._measure(worker, index)
            wall = time.perf_counter() - start
            for other, used in zip(others, before, strict=True):
                self.idle_cpu[other.name] += other.cpu_seconds() - used
                self.idle_wall[other.name] += wall

    def _measure(self, worker: Worker, index: int) -> None:
        reply = worker.ask("prefill", random_prompt(PREFILL_PROMPT, index))
        self.prefill[worker.name].append(PREFILL_PROMPT / reply["seconds"])
        reply = worker.ask("decode", random_prompt(DECODE_PROMPT, 10_000 + index), DECODE_NEW)
        if len(reply["tokens"]) != DECODE_NEW:
            raise SystemExit(f"{worker.name} made {len(reply['tokens'])} tokens, not {DECODE_NEW}")
        self.decode[worker.name].append((DECODE_NEW - 1) / reply["seconds"])
        self.answers[worker.name].append(reply["tokens"])

    def idle_share(self, name: str) -> float | None:
        """Cores kept busy while it was another's turn; None if there was no other."""
        wall = self.idle_wall[name]
        return self.idle_cpu[name] / wall if wall else None


def common_prefix(left: list[int], right: list[int]) -> int:
    pairs = zip(left, right, strict=True)
    return next((i for i, (a, b) in enumerate(pairs) if a != b), len(left))


def weight_bytes(model: Path) -> dict[str, int]:
    """Bytes read per decoded token at least: blocks as in the file, and 4 bytes a weight."""
    import gguf

    tensors = gguf.GGUFReader(model).tensors
    blocks = sum(int(tensor.n_bytes) for tensor in tensors)
    dense = sum(int(tensor.n_elements) for tensor in tensors) * 4
    return {"pellucid": blocks, "llama.cpp": blocks, "transformers": dense}


def report(record: dict[str, Any]) -> str:
    """The record as a table."""
    machine = record["environment"]
    busy = machine["load_average"][0] > MAX_LOAD
    probes = record["probes"]
    lines = [
        f"{machine['cpu']}, {record['threads']} threads, {', '.join(machine['cpu_flags'])}",
        f"load average before: {machine['load_average'][0]:.2f}"
        f"{' (OTHER PROGRAMS RUN: no figure here is worth much)' if busy else ''}",
        f"memory read {probes['read_gb_s']['median']:.1f} GB/s"
        f" · matmul fp32 {probes['matmul_fp32_gflop_s']['median']:.3g},"
        f" bf16 {probes['matmul_bf16_gflop_s']['median']:.3g} GFLOP/s",
        "",
        f"{'':22}{'tok/s':>8}{'min':>9}{'max':>9}{'ours is':>10}{'of memory limit':>22}",
    ]
    for kind in ("decode", "prefill"):
        ours = record[kind]["pellucid"]["median"]
        for name, figures in record[kind].items():
            ratio = f"{ours / figures['median']:.2f} ×" if name != "pellucid" else ""
            limit = ""
            if kind == "decode":
                top = record["decode_limit_tok_s"][name]
                limit = f"{figures['median'] / top:.0%} of {top:.0f} tok/s"
            lines.append(
                f"{kind:8}{name:14}{figures['median']:8.1f}{figures['min']:9.1f}"
                f"{figures['max']:9.1f}{ratio:>10}{limit:>22}"
            )
    first = record["start"]["first_output_s"]
    lines += [
        "",
        f"start to first output  {first['median']:.2f} s"
        f" ({first['min']:.2f} to {first['max']:.2f})",
    ]
    for name, load in record["load_s"].items():
        share = record["idle_cpu"][name]
        idle = "" if share is None else f", {share:.1%} of a core while idle"
        spins = " (SPINS: figures of the others are too low)" if (share or 0) > MAX_IDLE_CPU else ""
        lines.append(f"{name:14} loaded in {load:.1f} s{idle}{spins}")
    for name, shared in record["same_tokens"].items():
        lines.append(f"{name:14} agrees with ours on the first {shared} of {DECODE_NEW} tokens")
    return "\n".join(lines)


def run(args: argparse.Namespace) -> dict[str, Any]:
    import torch

    from environment import environment, matmul_rate, read_bandwidth, summary

    before = environment()
    torch.set_num_threads(args.threads)
    starts = []
    for index in range(args.repeats):
        print(f"start {index + 1} of {args.repeats}", file=sys.stderr)
        starts.append(start_seconds(sys.executable, args.model))

    names = ["pellucid", *(PEERS if args.oracle_python else ())]
    workers = []
    bandwidth, fp32, bf16 = read_bandwidth(), matmul_rate(), matmul_rate(torch.bfloat16, 512, 3)
    try:
        for name in names:
            print(f"loading {name}", file=sys.stderr)
            python = sys.executable if name == "pellucid" else args.oracle_python
            workers.append(Worker(name, python, args.model, args.threads))
        bench = Bench(workers)
        bench.warm_up()
        for index in range(args.repeats):
            print(f"round {index + 1} of {args.repeats}", file=sys.stderr)
            bench.round(index)
            bandwidth += read_bandwidth(repeats=2)
    finally:
        for worker in workers:
            worker.close()

    read = summary(bandwidth)
    sizes = weight_bytes(args.model)
    ours = bench.answers["pellucid"]
    return {
        "environment": before,
        "packages": {worker.name: worker.packages for worker in workers},
        "model": {"file": args.model.name, "bytes": args.model.stat().st_size},
        "threads": args.threads,
        "settings": {
            "decode_prompt": DECODE_PROMPT,
            "decode_new": DECODE_NEW,
            "prefill_prompt": PREFILL_PROMPT,
            "repeats": args.repeats,
        },
        "probes": {
            "read_gb_s": read,
            "matmul_fp32_gflop_s": summary(fp32),
            "matmul_bf16_gflop_s": summary(bf16),
        },
        "weight_bytes": {name: sizes[name] for name in names},
        "decode_limit_tok_s": {name: read["median"] * 1e9 / sizes[name] for name in names},
        "decode": {name: summary(bench.decode[name]) for name in names},
        "prefill": {name: summary(bench.prefill[name]) for name in names},
        "start": {key: summary([start[key] for start in starts]) for key in starts[0]},
        "load_s": {worker.name: worker.load_s for worker in workers},
        "idle_cpu": {name: bench.idle_share(name) for name in names},
        "same_tokens": {
            name: [common_prefix(*pair) for pair in zip(ours, bench.answers[name], strict=True)]
            for name in names[1:]
        },
    }


def main() -> None:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    parser = argparse.ArgumentParser(description="pellucid, llama.cpp and transformers on one CPU.")
    parser.add_argument("--model", default="smollm2", help="an alias or a .gguf file")
    parser.add_argument("--oracle-python", help="interpreter that has the two peers")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=cores)
    parser.add_argument("--json", metavar="FILE", help="write environment and samples (-: stdout)")
    parser.add_argument("--worker", choices=list(ENGINES), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        work(args.worker, Path(args.model), args.threads)
        return

    from environment import write_json
    from pellucid.model.hub import resolve

    args.model = resolve(args.model)

    record = run(args)
    print(report(record), file=sys.stderr if args.json == "-" else sys.stdout)
    if args.json:
        write_json(args.json, record)


if __name__ == "__main__":
    main()
