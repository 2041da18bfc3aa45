"""A second process that has imported everything and loaded nothing, for when the engine's dies.

Problem: a killed engine is back when another process has imported torch, 2 s on a quiet machine and
5 s on a busy one, and then loaded the model, which for a small one is the shorter part.
Idea: a process imports all that an engine needs, says so, and waits for its `Start`. When the
engine dies, it is told what to load at once, and the next one is started to wait in its place.

Trade-off: what it keeps in memory meanwhile: 230 MB with torch for CPUs, of which 150 MB are its
own and the rest are libraries that the engine's process has mapped as well. It takes nothing of a
GPU: only loading does. It
imports at a low priority, so that answers do not wait for it; an engine that dies within these
first seconds is replaced by a fresh process. `--no-spare` is the off form, `NoSpare`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from pellucid.server.host import EngineHost, say


class NoSpare:
    """The off form: nothing waits."""

    @property
    def is_waiting(self) -> bool:
        """Whether a process could take over at once."""
        return False

    async def take(self) -> EngineHost | None:
        """The process that waits, which is the caller's from now on; None if there is none."""
        return None

    async def renew(self) -> None:
        """See to it that a process will wait soon."""

    async def stop(self) -> None:
        """End the process that waits."""


class Spare(NoSpare):
    """One process that waits, made by `spawn`."""

    def __init__(self, spawn: Callable[[], Awaitable[EngineHost]]) -> None:
        self._spawn = spawn
        self._host: EngineHost | None = None

    @property
    def is_waiting(self) -> bool:
        host = self._host
        if host is None or host.link.down:
            return False
        return host.link.imports_s is not None

    async def take(self) -> EngineHost | None:
        if not self.is_waiting:
            await self.stop()
        host, self._host = self._host, None
        return host

    async def renew(self) -> None:
        if self._host and self._host.link.down:
            await self.stop()
        if self._host:
            return
        try:
            self._host = await self._spawn()
        except OSError as error:  # the engine runs, so this is no reason to end
            say(f"no spare process could be started ({error}): a restart will take longer")

    async def stop(self) -> None:
        host, self._host = self._host, None
        if host:
            await host.stop()
