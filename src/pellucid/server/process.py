"""Start the engine's process, listen to its standard error, and end it.

Standard error is passed on as it comes, and its last line is kept: when the process dies without a
word over the link (killed, out of memory, a crash in native code), that line and the exit status
are the reason that `/health` and the requests in flight are given.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import sys
from collections.abc import Sequence

from pellucid.server.link import EngineLink

WORKER = (sys.executable, "-m", "pellucid.server.worker")
STOP_S = 3.0
EXPLAIN_S = 2.0
TAIL_BYTES = 4096


class EngineProcess:
    """A child process with an engine in it, and the link to it. Make it with `spawn`."""

    link: EngineLink

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._tail = b""
        self._listening = asyncio.create_task(self._listen())

    @property
    def pid(self) -> int:
        return self._process.pid

    @classmethod
    async def spawn(cls, command: Sequence[str]) -> EngineProcess:
        """Start `command` with its end of a socket pair as the last argument."""
        ours, theirs = socket.socketpair()
        with theirs:
            process = await asyncio.create_subprocess_exec(
                *command,
                str(theirs.fileno()),
                pass_fds=(theirs.fileno(),),
                stdin=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                # Ctrl-C is for the server alone, which then tells the engine.
                start_new_session=True,
            )
        self = cls(process)
        self.link = await EngineLink.open(ours, self._explain)
        return self

    async def stop(self) -> None:
        """Hang up and wait; a process that does not leave in a few seconds is killed."""
        await self.link.close()
        if self._process.stdin:
            self._process.stdin.close()
        try:
            await asyncio.wait_for(self._process.wait(), STOP_S)
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()
        await self._heard()

    async def _heard(self) -> None:
        """Wait for the last of standard error, but not for others that hold it open."""
        done, _ = await asyncio.wait({self._listening}, timeout=EXPLAIN_S)
        if not done:
            self._listening.cancel()

    async def _listen(self) -> None:
        assert self._process.stderr
        while data := await self._process.stderr.read(TAIL_BYTES):
            sys.stderr.buffer.write(data)
            sys.stderr.buffer.flush()
            self._tail = (self._tail + data)[-TAIL_BYTES:]

    async def _explain(self) -> str:
        """How the process ended, and its last line. It has closed the link; it ends any moment."""
        try:
            code = await asyncio.wait_for(self._process.wait(), EXPLAIN_S)
        except TimeoutError:
            return "the engine closed the connection but its process still runs"
        await self._heard()
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"exited with {code}"
        lines = self._tail.decode(errors="replace").split("\n")
        last = next((line.strip() for line in reversed(lines) if line.strip()), "")
        return f"the engine's process {how}" + (f"; its last words: {last}" if last else "")
