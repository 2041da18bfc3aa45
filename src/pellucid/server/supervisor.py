"""The engine's process over its lives: it is started, watched, and started again when it dies.

    loading ──▶ ready ──dies──▶ restarting ──▶ ready ── ...
       │                            │ five loads in a row that fail
       ▼                            ▼
    the server ends              failed

Problem: native code can crash and the kernel can kill a process that takes too much memory; the
HTTP process outlives both, and a server that only says so until somebody restarts it helps nobody.
Idea: the dead process is reaped and another one loads the same configuration. What was in flight
is lost, because its keys and values are: each such call gets one error. A call that comes during
the restart waits for a moment, since a small model is back within seconds; after that it is turned
away with the time after which to try again. What takes longest of a small model's restart, the
imports, a spare process has behind it (`spare.py`).

Trade-off: the request that killed the process may come again and kill the next one. Therefore an
error of a call in flight asks clients not to repeat it by themselves, and the pause before a
restart doubles with each death that comes soon after a start.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal

from pellucid.config import EngineConfig
from pellucid.errors import InputError
from pellucid.request import EngineInfo
from pellucid.server.host import EngineHost, say
from pellucid.server.link import EngineDown, EngineLink
from pellucid.server.spare import NoSpare
from pellucid.switching import switched

PATIENCE_S = 5.0
"""How long a call waits for an engine that is being started again."""

State = Literal["loading", "ready", "restarting", "failed", "stopping"]


@dataclass(frozen=True, kw_only=True)
class Backoff:
    """How soon an engine is started again. The first time at once, then after 1, 2, 4 ... s."""

    first_s: float = 1.0
    most_s: float = 30.0
    stable_s: float = 60.0
    """After so long in service, the deaths before count no more."""
    max_loads: int = 5
    """Loads in a row that fail before nobody tries any more."""

    def delay(self, num_deaths: int) -> float:
        """Seconds to wait after death number `num_deaths` in a row, from 1 on."""
        if num_deaths <= 1:
            return 0.0
        return float(min(self.first_s * 2 ** min(num_deaths - 2, 16), self.most_s))


class Supervisor:
    """Keeps one engine running. `spawn`, then `load`; at last `stop`."""

    info: EngineInfo
    """Of the engine that was loaded last."""

    def __init__(
        self,
        spawn: Callable[[], Awaitable[EngineHost]],
        config: EngineConfig,
        backoff: Backoff = Backoff(),
        spare: NoSpare | None = None,
    ) -> None:
        self.state: State = "loading"
        self.reason = ""
        """Why the last engine died; empty if none did."""
        self.num_restarts = 0
        self._switching = asyncio.Lock()
        self._spawn = spawn
        self.config = config
        """What the engine is asked to be; `info` is what it came to."""
        self._backoff = backoff
        self.spare = spare or NoSpare()
        self._host: EngineHost | None = None
        self._watching: asyncio.Task[None] | None = None
        self._change: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._num_deaths = 0
        self._spawned_at = 0.0
        self._loaded_at = 0.0
        self._load_s = 0.0
        self._expected_at = 0.0

    @property
    def is_up(self) -> bool:
        return self.state == "ready" and self.link.down is None

    @property
    def link(self) -> EngineLink:
        """To the engine of the moment, which may be dead; a call takes what `ready` gives."""
        assert self._host, "spawn comes first"
        return self._host.link

    @property
    def retry_after_s(self) -> int | None:
        """Whole seconds until the engine should be back; None if nobody expects it."""
        if self.state not in ("ready", "restarting"):
            return None
        return max(1, math.ceil(self._expected_at - time.monotonic()))

    async def spawn(self, started: EngineHost | None = None) -> None:
        """Have a process that can be told what to load: one that is `started`, else the spare one,
        else a new one, which imports what it needs first."""
        self._spawned_at = time.monotonic()
        self._host = started or await self.spare.take() or await self._spawn()

    async def load(self) -> None:
        """Have the model loaded. Raises `InputError` if it cannot be, `EngineDown` on a crash."""
        self.info = await self.link.start(self.config)
        self._loaded_at = time.monotonic()
        self._load_s = self._loaded_at - self._spawned_at
        self._enter("ready")
        self._watching = self._watching or asyncio.create_task(self._watch())
        await self.spare.renew()

    async def switch(self, call_id: str, choices: dict[str, str]) -> EngineInfo:
        """Have the engine go on with other switches, as every engine started after it will.

        `InputError` for what cannot be had here; then nothing changes.
        """
        async with self._switching:  # one call after the other, each on what the last one left
            config = switched(self.config, choices)
            link = await self.ready()
            self.info = await link.switch(call_id, choices)
            self.config = config
            return self.info

    async def ready(self) -> EngineLink:
        """The link to an engine that answers; while it restarts, wait for it a little."""
        try:
            async with asyncio.timeout(PATIENCE_S):
                while not self.is_up and self.retry_after_s is not None:
                    await asyncio.shield(self._change)
        except TimeoutError:
            pass  # said below, with the time after which to ask again
        if self.is_up:
            return self.link
        again = self.retry_after_s
        raise EngineDown(
            self.reason + ("; it is being started again" if again else ""), retry_after_s=again
        )

    def fail(self, reason: str) -> None:
        """From now on there is no engine, and there will be none."""
        self.reason = reason
        self._enter("stopping")
        if self._host:
            self.link.fail(reason)

    async def stop(self) -> None:
        self.fail("the server is shutting down")
        if self._watching:
            self._watching.cancel()
            await asyncio.wait([self._watching])
        await self.spare.stop()
        if self._host:
            await self._host.stop()

    def _enter(self, state: State) -> None:
        self.state = state
        before, self._change = self._change, asyncio.get_running_loop().create_future()
        before.set_result(None)

    async def _watch(self) -> None:
        while self.state == "ready":
            reason = await self.link.gone()
            if self.state == "ready":
                await self._restart(reason)

    async def _restart(self, reason: str) -> None:
        """Start engines until one has loaded, or too many have not."""
        if time.monotonic() - self._loaded_at > self._backoff.stable_s:
            self._num_deaths = 0
        for _ in range(self._backoff.max_loads):
            self._num_deaths += 1
            delay = self._backoff.delay(self._num_deaths)
            self.reason = reason
            self._expected_at = time.monotonic() + delay + self._load_s
            self._enter("restarting")
            say(f"{reason}; it is started again" + (f" in {delay:g} s" if delay else ""))
            assert self._host
            await self._host.stop()
            await asyncio.sleep(delay)
            try:
                self.num_restarts += 1
                await self.spawn()
                await self.load()
                say(f"the engine is back, {self._load_s:.1f} s later")
                return
            except (EngineDown, InputError, OSError) as error:
                reason = str(error)
        self.reason = f"{reason}; it was started {self._backoff.max_loads} times in vain"
        self._enter("failed")
        say(f"{self.reason}: restart the server")
