"""A process that waits takes over from an engine's that dies."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import psutil
import pytest
from fake_server import FAKE_WORKER
from test_restart import BROKEN, QUICK, SLEEPS, until

from pellucid.config import EngineConfig
from pellucid.server.process import EngineProcess
from pellucid.server.protocol import SPARE
from pellucid.server.spare import Spare
from pellucid.server.supervisor import Supervisor


class Started:
    """Pids of the processes that were started, each with its command."""

    def __init__(self, command: tuple[str, ...]) -> None:
        self.command = command
        self.pids: list[int] = []
        self.error: OSError | None = None

    async def spawn(self) -> EngineProcess:
        if self.error:
            raise self.error
        process = await EngineProcess.spawn(self.command)
        self.pids.append(process.pid)
        return process


def supervised(
    act: Callable[[Supervisor, Started, Started], Coroutine[Any, Any, None]],
    spare_command: tuple[str, ...] = (*FAKE_WORKER, SPARE),
) -> list[int]:
    """`act` with a loaded engine, how engines are started and how spare ones are; all pids."""
    engines, spares = Started(FAKE_WORKER), Started(spare_command)

    async def main() -> None:
        engine = Supervisor(engines.spawn, EngineConfig(), QUICK, Spare(spares.spawn))
        await engine.spawn()
        try:
            await engine.load()
            await act(engine, engines, spares)
        finally:
            await engine.stop()

    asyncio.run(main())
    return engines.pids + spares.pids


async def kill(engine: Supervisor) -> None:
    """Kill the engine's process, and wait for another one to have loaded."""
    before = engine.num_restarts
    os.kill(engine._host.pid, signal.SIGKILL)  # type: ignore[union-attr]
    await until(lambda: engine.num_restarts > before and engine.is_up)


def test_the_spare_process_takes_over_and_another_one_waits() -> None:
    async def act(engine: Supervisor, engines: Started, spares: Started) -> None:
        for times in (1, 2):
            await until(lambda: engine.spare.is_waiting)
            waiting = spares.pids[-1]
            await kill(engine)
            assert engine._host.pid == waiting  # type: ignore[union-attr]
            await until(lambda: len(spares.pids) > times)  # noqa: B023 (it is called at once)
        assert len(engines.pids) == 1, "the first"

    pids = supervised(act)
    assert not any(psutil.pid_exists(pid) for pid in pids), "both end with the server"


def test_one_that_has_died_or_still_imports_is_passed_over() -> None:
    """A fresh process is the sooner one then, and nothing is left of the other."""

    async def dead(engine: Supervisor, engines: Started, spares: Started) -> None:
        await until(lambda: engine.spare.is_waiting)
        os.kill(spares.pids[0], signal.SIGKILL)
        await until(lambda: not engine.spare.is_waiting)
        assert engine.is_up, "the engine is another process"
        await passed_over(engine, engines, spares)

    async def passed_over(engine: Supervisor, engines: Started, spares: Started) -> None:
        await kill(engine)
        assert engine._host.pid == engines.pids[1]  # type: ignore[union-attr]
        await until(lambda: len(spares.pids) == 2)
        assert not psutil.pid_exists(spares.pids[0])

    supervised(dead)
    supervised(passed_over, SLEEPS)
    supervised(passed_over, BROKEN)


def test_one_that_cannot_be_started_is_no_reason_to_end(capsys: pytest.CaptureFixture[str]) -> None:
    async def act(engine: Supervisor, engines: Started, spares: Started) -> None:
        await until(lambda: engine.spare.is_waiting)
        spares.error = BlockingIOError(11, "no process can be made")
        for _ in range(2):
            await kill(engine)
        assert len(engines.pids) == 2 and len(spares.pids) == 1

    supervised(act)
    assert "no spare process could be started" in capsys.readouterr().err


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_real_one_imports_at_low_priority_and_serves_at_the_usual_one() -> None:
    """So that it takes no time from answers, and an engine in it is as fast as any other."""

    async def main() -> None:
        from pellucid.server.launch import WORKER

        process = await EngineProcess.spawn([*WORKER, "cpu", SPARE])
        try:
            seen = set[int]()
            while not process.link.imports_s:
                seen |= niceness(process.pid)
                await asyncio.sleep(0.02)
            assert seen == {0, 10}
            main_thread = Path(f"/proc/{process.pid}/stat").read_text()
            assert nice_of(main_thread) == 0
            assert "libtorch" in Path(f"/proc/{process.pid}/maps").read_text()
            before = cpu_s(process.pid)
            await asyncio.sleep(0.5)
            assert cpu_s(process.pid) == before, "it waits without a sound"
        finally:
            began = time.monotonic()
            await process.stop()
            assert time.monotonic() - began < 1.5

    asyncio.run(main())


def niceness(pid: int) -> set[int]:
    """Of the threads that a process has."""
    return {nice_of(stat.read_text()) for stat in Path(f"/proc/{pid}/task").glob("*/stat")}


def nice_of(stat: str) -> int:
    return int(stat.rpartition(")")[2].split()[16])


def cpu_s(pid: int) -> float:
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)
