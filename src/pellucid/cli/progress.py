"""How far the answers to many prompts are, on stderr: a bar where somebody may be watching, else a
line now and then, so that a log stays short."""

from __future__ import annotations

import sys
import time
from contextlib import AbstractContextManager

from tqdm import tqdm

QUIET_S = 10.0
"""Seconds between two lines where there is no terminal."""


class Answers:
    """Counts the answers and tokens of `total` answers; a context manager."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.num_ended = 0
        self.num_tokens = 0
        self._begin = self._told = time.monotonic()
        shape = "{n_fmt} of {total_fmt} answers |{bar}| {elapsed}{postfix}"
        # disable=None: no bar where stderr is not a terminal
        self._bar = tqdm(total=total, bar_format=shape, disable=None, leave=False)

    def __enter__(self) -> Answers:
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.close()

    def advance(self, num_tokens: int, ended: bool) -> None:
        """Count new tokens, and perhaps the end of their answer."""
        self.num_tokens += num_tokens
        self.num_ended += ended
        self._bar.set_postfix_str(self._tokens(), refresh=False)
        self._bar.update(int(ended))
        if self._bar.disable and time.monotonic() - self._told >= QUIET_S:
            self._told = time.monotonic()
            self.say(f"{self.num_ended} of {self.total} answers, {self._tokens()}")

    def aside(self) -> AbstractContextManager[None]:
        """In here others may print: the bar is out of their way."""
        return tqdm.external_write_mode()  # type: ignore[no-any-return]

    def say(self, text: str) -> None:
        self._bar.clear()
        print(text, file=sys.stderr, flush=True)

    def _tokens(self) -> str:
        rate = self.num_tokens / max(time.monotonic() - self._begin, 1e-9)
        return f"{self.num_tokens:,} tokens, {rate:,.0f} tokens/s"
