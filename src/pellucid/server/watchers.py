"""Everybody who watches the engine's steps, behind one stream of events.

Problem: a client may read slowly, go away for a second and come back, or arrive in the middle; the
engine must neither wait for it nor be asked twice. Idea: the engine tells this process once,
while anybody watches. Each piece of news is encoded once and put into one ring, bounded in bytes,
under a place that counts up for as long as the server lives. A watcher is a place in the ring and
nothing else. Whoever's place has been overwritten is told how much it missed and given the state
of now, which `Owners` keeps up to date from the very events.

    ring     … 41 42 43 44      places; the id of a server-sent event is `life-place`
    A at 44                     waits for 45
    B at 42                     is sent 43 and 44 in one piece
    C at 17                     is told that 27 pieces of news are lost, and gets the state at 44

Nobody watches: the engine is told to stop, a moment later, so that a single client whose connection
broke finds the ring without a gap when it comes back.

Trade-off: with many watchers the news of a step is kept for the slowest, but never more than
`MOST_BYTES` of it.
"""

from __future__ import annotations

import asyncio
import secrets
import traceback
from collections import deque
from collections.abc import AsyncGenerator
from types import TracebackType
from typing import Any, Self

from pellucid.owners import Inconsistent, Owners
from pellucid.server.http import KEEP_ALIVE, event
from pellucid.server.link import EngineDown
from pellucid.server.protocol import Traced, Unwatched, Watched
from pellucid.server.supervisor import Supervisor

MOST_BYTES = 8 << 20
"""Of news that are kept: some minutes of eight answers at a time."""
MOST_DIGITS = 18
"""Of a place that somebody says to have seen."""
LINGER_S = 2.0
"""How long the engine goes on telling when the last watcher has left."""
MEASURING = "a measurement has the engine to itself; what it does is not told"


class Watchers:
    """The ring, who reads from it, and the one who fills it."""

    def __init__(
        self, engine: Supervisor, most_bytes: int = MOST_BYTES, linger_s: float = LINGER_S
    ) -> None:
        self._engine = engine
        self._most_bytes = most_bytes
        self._linger_s = linger_s
        self._life = secrets.token_hex(4)
        self._ring: deque[bytes] = deque()
        self._num_bytes = 0
        self.place = 0
        """Of the last piece of news."""
        self._owners: Owners | None = None
        """None until the engine has told its state."""
        self._num_watchers = 0
        self._news = asyncio.Event()
        self._following: asyncio.Task[None] | None = None
        self._leaving: asyncio.TimerHandle | None = None
        self.ended = False
        """No engine will tell anything any more."""

    def join(self, last_id: str = "") -> Watcher:
        """One more, who has seen everything up to `last_id`."""
        life, _, place = last_id.partition("-")
        known = life == self._life and place.isdecimal() and len(place) <= MOST_DIGITS
        return Watcher(self, int(place) if known and int(place) <= self.place else None)

    def enter(self) -> None:
        self._num_watchers += 1
        if self._leaving:
            self._leaving.cancel()
            self._leaving = None
        if self._following is None or self._following.done():
            self._owners = None
            self._following = asyncio.create_task(self._follow())

    def leave(self) -> None:
        self._num_watchers -= 1
        if not self._num_watchers:
            loop = asyncio.get_running_loop()
            self._leaving = loop.call_later(self._linger_s, self._stop)

    def push(self, news: Watched | Traced | Unwatched) -> None:
        """What the engine tells; called by the link."""
        match news:
            case Watched(state):
                self._owners = Owners(state)
                self._add(state)
            case Traced(events, dropped):
                try:
                    self._take(events if not dropped else None)
                except Inconsistent:
                    traceback.print_exc()
                    self._begin_again()
            case Unwatched():
                self._add({"type": "paused", "reason": MEASURING})
                self._begin_again()  # obeyed as soon as the measurement has ended

    def since(self, place: int) -> bytes | None:
        """The news after `place` in one piece; None if some of it is gone."""
        missing = self.place - place
        if missing > len(self._ring):
            return None
        # From the end, where a deque is quick: most watchers lack the last piece alone.
        return b"".join(self._ring[-back] for back in range(missing, 0, -1))

    def state(self) -> bytes:
        """The state at `place`; nothing if the engine has not told it yet, but soon will."""
        if self._owners is None:
            return b""
        return self._encoded(self._owners.state())

    def dropped(self, num: int) -> bytes:
        return self._encoded({"type": "dropped", "news": num})

    async def wait(self, timeout: float) -> None:
        """Until there is news. Raises TimeoutError."""
        async with asyncio.timeout(timeout):
            await self._news.wait()

    def _take(self, events: list[Any] | None) -> None:
        if events is None:
            self._begin_again()
        elif self._owners is not None:  # what comes before the state belongs to nobody
            for each in events:
                self._owners.apply(each)
                self._add(each)

    def _begin_again(self) -> None:
        self._owners = None
        self._engine.link.watch(self)

    def _encoded(self, news: Any) -> bytes:
        return f"id: {self._life}-{self.place}\n".encode() + event(news)

    def _add(self, news: Any) -> None:
        self.place += 1
        piece = self._encoded(news)
        self._ring.append(piece)
        self._num_bytes += len(piece)
        while self._num_bytes > self._most_bytes and len(self._ring) > 1:
            self._num_bytes -= len(self._ring.popleft())
        before, self._news = self._news, asyncio.Event()
        before.set()

    async def _follow(self) -> None:
        """Have the engine tell its steps, and each engine that comes after it."""
        self.ended = False
        while True:
            try:
                link = await self._engine.ready()
            except EngineDown as error:
                if error.retry_after_s is not None:
                    continue  # it is still being started
                self.ended = True
                self._add({"type": "ended", "reason": str(error)})
                return
            link.watch(self)
            reason = await link.gone()
            self._owners = None
            self._add({"type": "restarting", "reason": reason})

    def _stop(self) -> None:
        self._leaving = None
        if self._following:
            self._following.cancel()
            self._following = None
        self._owners = None
        self._engine.link.unwatch()


class Watcher:
    """One client's place in the ring. Use in a `with`."""

    def __init__(self, watchers: Watchers, place: int | None) -> None:
        self._watchers = watchers
        self._place = place

    async def events(self, keep_alive_s: float) -> AsyncGenerator[bytes, None]:
        """Server-sent events, from where it was or from the state of now."""
        ring = self._watchers
        if self._place is None:
            self._place = ring.place
            yield ring.state() or KEEP_ALIVE
        while True:
            at = ring.place
            news = ring.since(self._place)
            if news is None:
                news = ring.dropped(at - self._place) + ring.state()
            self._place = at
            if news:
                yield news
            elif ring.ended:
                return
            else:
                try:
                    await ring.wait(keep_alive_s)
                except TimeoutError:
                    yield KEEP_ALIVE

    def __enter__(self) -> Self:
        self._watchers.enter()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._watchers.leave()
