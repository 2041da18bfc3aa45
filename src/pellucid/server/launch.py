"""What a server begins with: take the port, and start the engine's process.

The engine's process imports torch for two to five seconds, and nothing is ready before that is
done. So it is started before this one imports its own libraries (an event loop, a web server, a
tokenizer, numpy: one second), and this module needs none of them. The port comes first of all: one
that is in use is known at once, and clients that come during the load wait in the socket's queue.
"""

from __future__ import annotations

import errno
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import NamedTuple

from pellucid.errors import InputError

WORKER = (sys.executable, "-m", "pellucid.server.worker")
"""The engine's process; what it may run on follows."""
BACKLOG = 2048


class NewProcess(NamedTuple):
    """A process, and our end of the socket pair to it. It ends when its standard input does."""

    process: subprocess.Popen[bytes]
    sock: socket.socket
    began: float
    """By `time.perf_counter`."""


def launch(command: Sequence[str]) -> NewProcess:
    """Start `command` with its end of a socket pair as the last argument."""
    began = time.perf_counter()
    ours, theirs = socket.socketpair()
    with theirs:
        process = subprocess.Popen(
            [*command, str(theirs.fileno())],
            pass_fds=(theirs.fileno(),),
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            # Ctrl-C is for the server alone, which then tells the engine.
            start_new_session=True,
        )
    return NewProcess(process, ours, began)


def bind(host: str, port: int) -> socket.socket:
    """A listening socket."""
    try:
        family, kind, proto, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (socket.gaierror, UnicodeError) as error:
        raise InputError(f"unknown host {host!r}: {error}; see --host", param="host") from error
    sock = socket.socket(family, kind, proto)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Inherited by every connection: a token must not wait for the next to share its packet.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.bind(address)
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        if error.errno == errno.EADDRINUSE:
            why = f"port {port} on {host} is in use; choose another with --port, or 0 for any"
        else:
            why = f"cannot listen on {host} port {port}: {error.strerror}"
        raise InputError(why, param="port") from error
    return sock
