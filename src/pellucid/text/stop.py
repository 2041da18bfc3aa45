"""Stop strings, found as the text comes in.

Problem: a stop string may begin in one piece of text and end in a later one. So text that may be
the beginning of one must wait, and no other may, or a stream stutters.

Idea: one Knuth-Morris-Pratt automaton per string. Its state is how many characters of the string
the text ends with; the longest of them is exactly what must wait. Each character costs a step per
string, whatever the lengths.

Which of several strings wins: the one that is complete first, because there generation ends; of two
that end together, the longer. So the outcome does not depend on how the text was cut.

Source: Knuth, Morris and Pratt 1977, SIAM J. Comput. 6(2).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache


class StopMatcher:
    """Cuts a growing text off before the first stop string."""

    def __init__(self, stops: Sequence[str]) -> None:
        # Of strings that end together the longest is met first, and wins.
        self._stops = [Automaton(stop) for stop in sorted(set(stops), key=len, reverse=True)]
        self._firsts = frozenset(stop[0] for stop in stops)
        self._held = ""
        self.stopped: str | None = None

    def push(self, text: str) -> str:
        """Take the next piece; return what can no longer be part of a stop string."""
        if self.stopped is not None:
            return ""
        if not self._held and self._firsts.isdisjoint(text):
            return text
        text = self._held + text
        for place in range(len(self._held), len(text)):
            for stop in self._stops:
                if stop.step(text[place]):
                    self.stopped, self._held = stop.text, ""
                    return text[: place + 1 - len(stop.text)]
        keep = len(text) - max(stop.state for stop in self._stops)
        self._held = text[keep:]
        return text[:keep]

    def finish(self) -> str:
        """There is no more text: what was held back is no stop string after all."""
        held, self._held = self._held, ""
        return held


class Automaton:
    """Reads characters and knows how much of `text` they end with."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.state = 0
        self._shorter = shorter_of(text)

    def step(self, char: str) -> bool:
        """Read a character; True if `text` is complete with it."""
        state = self.state
        while state and self.text[state] != char:
            state = self._shorter[state]
        self.state = state + (self.text[state] == char)
        return self.state == len(self.text)


@lru_cache(maxsize=256)
def shorter_of(text: str) -> tuple[int, ...]:
    """By n, the length of the longest proper prefix of text[:n] that is also its suffix. The
    answers of a request, and the requests of a client, have their stop strings in common."""
    shorter = [0, 0]
    for place in range(1, len(text)):
        state = shorter[place]
        while state and text[state] != text[place]:
            state = shorter[state]
        shorter.append(state + (text[state] == text[place]))
    return tuple(shorter)
