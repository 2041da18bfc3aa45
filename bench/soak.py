"""Many clients, some of which behave badly; afterwards nothing may be left behind.

    python bench/soak.py [--requests 200] [--concurrency 32] [--json FILE] [-- serve flags]

Starts `pellucid serve` on a free port and sends the same requests twice: one round to warm up, one
that counts. Each request is one of

    plain      a chat, answered whole         stream     a completion, streamed to its end
    leaves     a stream left in the middle    impatient  a client timeout, usually too short
    too_long   a prompt beyond the context    too_big    a body beyond the limit

in seeded random order. Every answer must be complete (finish reason, usage that agrees with the
tokens received) or a proper error (the right status, OpenAI's body). After the round no sequence
may run or wait, no block may be in use, and the memory of both processes must be back within 5 %
of its level after the warm-up. Exit code 1 if any of this fails.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import json
import random
import re
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import httpx
import psutil

KINDS = {"plain": 30, "stream": 30, "leaves": 15, "impatient": 10, "too_long": 10, "too_big": 5}
TEXT = "the river of light and a stone under old trees near one quiet house where rain fell"
MEMORY_TOLERANCE = 0.05
SETTLE_S = 20.0


@dataclass
class Sample:
    """What became of one request."""

    kind: str
    outcome: str
    """complete, left, timed_out, refused, or bad"""
    seconds: float
    num_tokens: int = 0
    detail: str = ""


class Bad(Exception):
    """An answer that is neither complete nor a proper error."""


class Client:
    """One round's worth of badly behaved clients."""

    def __init__(self, url: str, context_length: int, max_tokens: int) -> None:
        self.http = httpx.AsyncClient(base_url=url, timeout=600, limits=httpx.Limits())
        self.context_length = context_length
        self.max_tokens = max_tokens

    async def send(self, kind: str, seed: int) -> Sample:
        rng = random.Random(seed)
        began = time.perf_counter()
        try:
            outcome, num_tokens = await getattr(self, kind)(rng)
            detail = ""
        except (Bad, httpx.HTTPError) as error:
            outcome, num_tokens, detail = "bad", 0, f"{type(error).__name__}: {error}"
        return Sample(kind, outcome, time.perf_counter() - began, num_tokens, detail)

    async def plain(self, rng: random.Random) -> tuple[str, int]:
        n = rng.choice([1, 1, 1, 2])
        body = {"messages": [{"role": "user", "content": text(rng)}], "n": n, **self.common(rng)}
        return "complete", check_whole(await self.post("/v1/chat/completions", body), n)

    async def stream(self, rng: random.Random) -> tuple[str, int]:
        return "complete", await self.read_stream(rng, leave_after=None)

    async def leaves(self, rng: random.Random) -> tuple[str, int]:
        return "left", await self.read_stream(rng, leave_after=rng.randint(1, 8))

    async def impatient(self, rng: random.Random) -> tuple[str, int]:
        body = {"prompt": text(rng), **self.common(rng), "ignore_eos": True}
        try:
            answer = await self.post("/v1/completions", body, timeout=rng.uniform(0.01, 0.5))
        except httpx.TimeoutException:
            return "timed_out", 0
        return "complete", check_whole(answer, 1)

    async def too_long(self, rng: random.Random) -> tuple[str, int]:
        ids = [rng.randint(1, 200) for _ in range(self.context_length + rng.randint(1, 99))]
        body = {"prompt": ids, "stream": rng.random() < 0.5}
        response = await self.http.post("/v1/completions", json=body)
        check_error(response, 400, "context_length_exceeded")
        return "refused", 0

    async def too_big(self, rng: random.Random) -> tuple[str, int]:
        body = {"prompt": "x" * rng.randint(9_000_000, 10_000_000)}
        check_error(await self.http.post("/v1/completions", json=body), 413, "body_too_large")
        return "refused", 0

    def common(self, rng: random.Random) -> dict[str, Any]:
        return {
            "max_tokens": rng.randint(1, self.max_tokens),
            "temperature": rng.choice([0, 0.7, 1]),
            "seed": rng.randint(0, 9),
            "return_token_ids": True,
        }

    async def post(self, path: str, body: dict[str, Any], **options: Any) -> dict[str, Any]:
        """A good answer's body."""
        response = await self.http.post(path, json=body, **options)
        if response.status_code != 200:
            raise Bad(f"{response.status_code} {response.text[:200]}")
        answer: dict[str, Any] = response.json()
        return answer

    async def read_stream(self, rng: random.Random, leave_after: int | None) -> int:
        body = {"prompt": text(rng), "stream": True, **self.common(rng)}
        body["stream_options"] = {"include_usage": True}
        events: list[dict[str, Any]] = []
        last = ""
        async with self.http.stream("POST", "/v1/completions", json=body) as response:
            if response.status_code != 200:
                raise Bad(f"{response.status_code} {(await response.aread())[:200]!r}")
            async for line in response.aiter_lines():
                if line.startswith("data: {"):
                    events.append(json.loads(line[6:]))
                    if leave_after is not None and len(events) >= leave_after:
                        return len(events)
                last = line or last
        if last != "data: [DONE]":
            raise Bad(f"the stream ended with {last[:200]}")
        return check_stream(events)


def text(rng: random.Random) -> str:
    return " ".join(rng.choices(TEXT.split(), k=rng.randint(3, 60)))


def check_whole(answer: dict[str, Any], n: int) -> int:
    choices = answer["choices"]
    num_tokens = sum(len(choice["token_ids"]) for choice in choices)
    if [choice["index"] for choice in choices] != list(range(n)):
        raise Bad(f"choices {[choice['index'] for choice in choices]} instead of {n}")
    if not all(choice["finish_reason"] in ("stop", "length") for choice in choices):
        raise Bad(f"finish reasons {[choice['finish_reason'] for choice in choices]}")
    if answer["usage"]["completion_tokens"] != num_tokens or not num_tokens:
        raise Bad(f"{num_tokens} tokens came, usage says {answer['usage']}")
    return num_tokens


def check_stream(events: list[dict[str, Any]]) -> int:
    """Put the chunks together and check them like a whole answer."""
    *chunks, last = events
    if any("error" in event for event in events) or last["choices"]:
        raise Bad(f"the stream's last event is {str(last)[:200]}")
    entries = [entry for chunk in chunks for entry in chunk["choices"]]
    ids = [token for entry in entries for token in entry.get("token_ids", [])]
    reasons = [entry["finish_reason"] for entry in entries if entry["finish_reason"]]
    if len(reasons) != 1:
        raise Bad(f"finish reasons {reasons}")
    whole = {"index": 0, "token_ids": ids, "finish_reason": reasons[0]}
    return check_whole({"choices": [whole], "usage": last["usage"]}, 1)


def check_error(response: httpx.Response, status: int, code: str) -> None:
    if response.status_code != status:
        raise Bad(f"{response.status_code} instead of {status}: {response.text[:200]}")
    error = response.json()["error"]
    if set(error) != {"message", "type", "param", "code"} or error["code"] != code:
        raise Bad(f"not a proper error: {error}")


def requests(rng: random.Random, num_requests: int) -> list[tuple[str, int]]:
    """Kinds in random order, at least one of each, and a seed for each request."""
    kinds = list(KINDS)
    kinds += rng.choices(kinds, list(KINDS.values()), k=max(0, num_requests - len(kinds)))
    rng.shuffle(kinds)
    return [(kind, rng.getrandbits(32)) for kind in kinds[:num_requests]]


async def run_round(
    client: Client, load: Sequence[tuple[str, int]], concurrency: int
) -> list[Sample]:
    """All requests of a round, `concurrency` at a time."""
    gate = asyncio.Semaphore(concurrency)

    async def one(kind: str, seed: int) -> Sample:
        async with gate:
            return await client.send(kind, seed)

    return list(await asyncio.gather(*(one(kind, seed) for kind, seed in load)))


async def settle(client: Client) -> dict[str, Any]:
    """The engine's state once nothing runs or waits, or after `SETTLE_S`."""
    deadline = time.monotonic() + SETTLE_S
    while True:
        health: dict[str, Any] = (await client.http.get("/health")).json()
        idle = health["num_running"] == health["num_waiting"] == health["num_blocks_used"] == 0
        if (idle and health["fresh"]) or time.monotonic() > deadline:
            return health
        await asyncio.sleep(0.05)


async def soak(
    url: str,
    processes: Sequence[psutil.Process],
    *,
    num_requests: int = 200,
    concurrency: int = 32,
    max_tokens: int = 48,
    seed: int = 0,
) -> dict[str, Any]:
    """Two rounds against the server at `url`; the figures of the second."""
    async with httpx.AsyncClient(base_url=url) as http:
        models = (await http.get("/v1/models")).json()["data"]
    client = Client(url, models[0]["max_model_len"], max_tokens)
    load = requests(random.Random(seed), num_requests)
    async with client.http:
        warmup = await run_round(client, load, concurrency)
        await settle(client)
        before = [process.memory_info().rss for process in processes]
        began = time.perf_counter()
        samples = await run_round(client, load, concurrency)
        seconds = time.perf_counter() - began
        health = await settle(client)
        after = [process.memory_info().rss for process in processes]
    return {
        "num_requests": num_requests,
        "concurrency": concurrency,
        "max_tokens": max_tokens,
        "seed": seed,
        "seconds": seconds,
        "health_after": health,
        "rss_before_bytes": before,
        "rss_after_bytes": after,
        "rss_growth": [b / a - 1 for a, b in zip(before, after, strict=True)],
        "warmup_samples": [asdict(sample) for sample in warmup],
        "samples": [asdict(sample) for sample in samples],
    }


def faults(result: dict[str, Any]) -> list[str]:
    """What is wrong with a result; empty if it passes."""
    found = [
        f"{sample['kind']}: {sample['detail']}"
        for sample in result["warmup_samples"] + result["samples"]
        if sample["outcome"] == "bad"
    ]
    health = result["health_after"]
    for name in ("num_running", "num_waiting", "num_blocks_used"):
        if health[name]:
            found.append(f"{name} is {health[name]} after the round")
    for growth in result["rss_growth"]:
        if growth > MEMORY_TOLERANCE:
            found.append(f"memory grew by {growth:.1%}")
    return found


def table(result: dict[str, Any]) -> str:
    rows = collections.defaultdict(list)
    for sample in result["samples"]:
        rows[sample["kind"], sample["outcome"]].append(sample)
    lines = [
        f"{'kind':<10} {'outcome':<10} {'count':>5} {'tokens':>7} {'median s':>9} {'max s':>7}"
    ]
    for (kind, outcome), samples in sorted(rows.items()):
        times = [sample["seconds"] for sample in samples]
        tokens = sum(sample["num_tokens"] for sample in samples)
        lines.append(
            f"{kind:<10} {outcome:<10} {len(samples):>5} {tokens:>7} "
            f"{statistics.median(times):>9.2f} {max(times):>7.2f}"
        )
    health = result["health_after"]
    lines.append(
        f"{result['num_requests']} requests in {result['seconds']:.1f} s; afterwards "
        f"{health['num_running']} running, {health['num_waiting']} waiting, "
        f"{health['num_blocks_used']} of {health['num_blocks']} blocks in use"
    )
    for name, before, after, growth in zip(
        ("server", "engine"),
        result["rss_before_bytes"],
        result["rss_after_bytes"],
        result["rss_growth"],
        strict=False,
    ):
        lines.append(
            f"{name} memory {before / 2**20:.1f} → {after / 2**20:.1f} MiB ({growth:+.1%})"
        )
    return "\n".join(lines)


def start_server(flags: Sequence[str]) -> tuple[subprocess.Popen[str], str]:
    """`pellucid serve` on a free port, and its address."""
    command = [sys.executable, "-m", "pellucid", "serve", "--port", "0", *flags]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr
    for line in process.stderr:
        print(line, end="", file=sys.stderr)
        if match := re.search(r"serves .* at (http://\S+)/v1", line):
            threading.Thread(target=pass_on, args=(process.stderr,), daemon=True).start()
            return process, match[1]
    raise SystemExit(f"the server did not start: exit code {process.wait()}")


def pass_on(lines: Iterable[str]) -> None:
    for line in lines:
        print(line, end="", file=sys.stderr)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--requests", type=int, default=200)
    parser.add_argument("--concurrency", type=int, default=32)
    parser.add_argument("--max-tokens", type=int, default=48, help="of one answer, at most")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", metavar="FILE", help="environment, figures and raw samples")
    parser.add_argument("flags", nargs="*", help="after --, flags for pellucid serve")
    args = parser.parse_args()
    process, url = start_server(args.flags)
    try:
        server = psutil.Process(process.pid)
        result = asyncio.run(
            soak(
                url,
                [server, *server.children()],
                num_requests=args.requests,
                concurrency=args.concurrency,
                max_tokens=args.max_tokens,
                seed=args.seed,
            )
        )
    finally:
        process.terminate()
        process.wait(20)
    print(table(result))
    problems = faults(result)
    for problem in problems:
        print(f"FAULT {problem}")
    if args.json:
        # Imported here: the rounds themselves need no torch, and the tests use them without.
        from environment import environment, write_json

        record = {"serve_flags": args.flags, "faults": problems, **result}
        write_json(args.json, {"environment": environment(), **record})
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
