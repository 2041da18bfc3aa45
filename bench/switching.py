#!/usr/bin/env python
"""What it takes to change each switch on a running server, and what is the same afterwards.

    python bench/switching.py [--model smollm2] [--json bench/results/switching-cpu.json]

A server is started. Each value that its switchboard says can be had is asked for once, from the
defaults and back again, while an answer of another client is streaming: `change_s` is from sending
the change to its answer, `first_s` from there to the first token of the next request. The answer of
`CHECKED` tokens after each change is compared with the one before all of them: greedy tokens are
the same wherever the switch's exactness is *bit* or *token* and the numbers are float32.
"""

from __future__ import annotations

import argparse
import json
import sys
import threading
import time
from typing import Any

import httpx

import environment as shared
from first_contact import OPTIONS, URL, start, stop

PROMPT, ANSWER, CHECKED = 64, 512, 32
BODY = {
    "prompt": [7 + 13 * n % 1009 for n in range(PROMPT)],
    "temperature": 0.0,
    "ignore_eos": True,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", metavar="FILE")
    parser.add_argument("--model", default="", help="a name or folder; default: first_contact's")
    parser.add_argument("--commit", default="", help="of the sources, where git does not know")
    args = parser.parse_args()
    server, _ = start(("--model", args.model) if args.model else OPTIONS)
    try:
        with httpx.Client(base_url=URL, timeout=120) as http:
            record = measure(http)
    finally:
        stop(server)
    for row in record["changes"]:
        print(
            f"{row['switch']:16} {row['value']:12} {row['change_s']:6.3f} s, first token "
            f"{row['first_s'] * 1e3:6.1f} ms, tokens {'the same' if row['same'] else 'differ'}"
        )
    if args.json:
        environment = shared.environment()
        environment["commit"] = args.commit or environment["commit"]
        shared.write_json(args.json, {"environment": environment, **record})


def measure(http: httpx.Client) -> dict[str, Any]:
    """Every change there is, from the defaults and back."""
    told = http.get("/explorer/v1/capabilities").json()
    expected, _ = answer(http)
    other = Company(http)
    changes = []
    for row in told["switches"]:
        values = [v["value"] for v in row["values"] if not v["why_not"]]
        for value in [*(v for v in values if v != row["current"]), row["current"]]:
            if len(values) > 1:
                other.keep_company()
                begin = time.perf_counter()
                http.post("/explorer/v1/switches", json={row["key"]: value}).raise_for_status()
                change_s = time.perf_counter() - begin
                tokens, first_s = answer(http)
                same = tokens == expected
                changes.append(
                    {"switch": row["key"], "value": value, "exactness": row["exactness"]}
                    | {"change_s": change_s, "first_s": first_s, "same": same}
                )
    other.leave()
    return {"model": told["model"]["name"], "device": told["device"], "changes": changes}


def answer(http: httpx.Client) -> tuple[list[int], float]:
    """The tokens, and the seconds to the first of them."""
    begin, first_s, tokens = time.perf_counter(), 0.0, list[int]()
    body = BODY | {"max_tokens": CHECKED, "stream": True}
    with http.stream("POST", "/v1/completions", json=body) as response:
        response.raise_for_status()
        for line in response.iter_lines():
            if line.startswith("data: {"):
                chunk = json.loads(line.removeprefix("data: "))
                if "error" in chunk:
                    sys.exit(f"bench/switching.py: {chunk['error']['message']}")
                first_s = first_s or time.perf_counter() - begin
                tokens += chunk["choices"][0].get("token_ids", [])
    return tokens, first_s


class Company:
    """One more client, whose answer is being made during each change."""

    def __init__(self, http: httpx.Client) -> None:
        self.http = http
        self.stopping = threading.Event()
        self.thread: threading.Thread | None = None

    def keep_company(self) -> None:
        if self.thread is None or not self.thread.is_alive():
            self.thread = threading.Thread(target=self._stream)
            self.thread.start()

    def leave(self) -> None:
        self.stopping.set()
        if self.thread:
            self.thread.join()

    def _stream(self) -> None:
        room = self.http.get("/v1/models").json()["data"][0]["max_model_len"] - PROMPT - 1
        body = BODY | {"max_tokens": min(ANSWER, room), "stream": True}
        with self.http.stream("POST", "/v1/completions", json=body) as response:
            response.raise_for_status()
            for _ in response.iter_lines():
                if self.stopping.is_set():
                    return


if __name__ == "__main__":
    main()
