"""The engine's process: listen to its standard error, notice its end, and bring it about.

Standard error is passed on as it comes, and its last line is kept: when the process dies without a
word over the link (killed, out of memory, a crash in native code), that line and the exit status
are the reason that `/health` and the requests in flight are given.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import subprocess
import sys
from collections.abc import Sequence
from typing import IO

from pellucid.server.launch import NewProcess, launch
from pellucid.server.link import EngineLink
from pellucid.server.threads import in_daemon

STOP_S = 3.0
EXPLAIN_S = 2.0
TAIL_BYTES = 4096


class EngineProcess:
    """A child process with an engine in it, and the link to it. Make it with `spawn` or `adopt`."""

    link: EngineLink

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stderr
        self._process = process
        self._tail = b""
        self._listening = asyncio.create_task(self._listen(process.stderr))
        self._ended = asyncio.create_task(in_daemon(process.wait))

    @property
    def pid(self) -> int:
        return self._process.pid

    @classmethod
    async def spawn(cls, command: Sequence[str]) -> EngineProcess:
        """Start `command` with its end of a socket pair as the last argument."""
        return await cls.adopt(launch(command))

    @classmethod
    async def adopt(cls, launched: NewProcess) -> EngineProcess:
        """Take charge of a process that was started before there was an event loop."""
        self = cls(launched.process)
        self.link = await EngineLink.open(launched.sock, self._explain)
        return self

    async def stop(self) -> None:
        """Hang up and wait; a process that does not leave in a few seconds is killed."""
        await self.link.close()
        if self._process.stdin:
            self._process.stdin.close()
        if await self._end(STOP_S) is None:
            self._process.kill()
            await self._ended
        await self._heard()

    async def _end(self, timeout: float) -> int | None:
        """The process's exit code once it has ended; None if it has not after `timeout` seconds."""
        with contextlib.suppress(TimeoutError):
            return await asyncio.wait_for(asyncio.shield(self._ended), timeout)
        return None

    async def _heard(self) -> None:
        """Wait for the last of standard error, but not for others that hold it open."""
        done, _ = await asyncio.wait({self._listening}, timeout=EXPLAIN_S)
        if not done:
            self._listening.cancel()

    async def _listen(self, stderr: IO[bytes]) -> None:
        reader = asyncio.StreamReader()
        loop = asyncio.get_running_loop()
        pipe, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), stderr)
        with contextlib.closing(pipe):
            while data := await reader.read(TAIL_BYTES):
                sys.stderr.buffer.write(data)
                sys.stderr.buffer.flush()
                self._tail = (self._tail + data)[-TAIL_BYTES:]

    async def _explain(self) -> str:
        """How the process ended, and its last line. It has closed the link; it ends any moment."""
        code = await self._end(EXPLAIN_S)
        if code is None:
            return "the engine closed the connection but its process still runs"
        await self._heard()
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"exited with {code}"
        lines = self._tail.decode(errors="replace").split("\n")
        last = next((line.strip() for line in reversed(lines) if line.strip()), "")
        return f"the engine's process {how}" + (f"; its last words: {last}" if last else "")
