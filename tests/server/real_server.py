"""The real `pellucid serve` as a program."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import psutil


@dataclass
class Program:
    """A running server."""

    process: subprocess.Popen[str]
    url: str
    http: httpx.Client

    @property
    def worker(self) -> psutil.Process:
        """The engine's process, as it is now."""
        return engine_of(self.process.pid)

    def complete(self, prompt: Any, **body: Any) -> dict[str, Any]:
        """The answer to one call."""
        response = self.http.post("/v1/completions", json={"prompt": prompt, **body})
        assert response.status_code == 200, response.text
        answer: dict[str, Any] = response.json()
        return answer

    def health(self) -> dict[str, Any]:
        answer: dict[str, Any] = self.http.get("/health").json()
        return answer


def engine_of(pid: int) -> psutil.Process:
    """The engine's process of the server `pid`: its eldest child, for a spare is younger."""
    return min(psutil.Process(pid).children(), key=lambda child: (child.create_time(), child.pid))


@contextmanager
def serving(*args: str) -> Iterator[Program]:
    """`pellucid serve ARGS` on a free port; at the end it must leave in peace."""
    process = subprocess.Popen(
        [sys.executable, "-m", "pellucid", "serve", "--port", "0", *args],
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        url = address_of(process)
        with httpx.Client(base_url=url, timeout=60) as http:
            yield Program(process, url, http)
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
    finally:
        process.kill()
        process.wait()
        assert process.stderr
        process.stderr.close()


def address_of(process: subprocess.Popen[str]) -> str:
    """Where the server says that it is, once it is ready."""
    assert process.stderr
    said = ""
    for line in process.stderr:
        said += line
        if match := re.search(r"its page at (http://\S+)", line):
            return match[1]
    raise AssertionError(f"it ended before it was ready: {said}")
