"""Compile the C kernels on first use, for exactly this processor.

Problem: the fast instructions differ from processor to processor, and a wheel for the oldest of
them would leave most of the speed behind.
Idea: ship the C source and let the machine's own compiler translate it with `-march=native` when
the first model is loaded. The result is kept under a name made of everything it depends on (source,
flags, compiler, processor), so a change of any of them makes a new file and nothing is ever stale.
Trade-off: the first start takes a few seconds longer, and a compiler must be there. Without one the
weights are expanded on load and torch does the work; `status` says so in one line.

The file is written beside its final name and renamed, so that processes that start together each
see a whole file or none.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path

SOURCES = sorted(Path(__file__).parent.glob("*.[ch]"))
COMPILERS = ("cc", "gcc", "clang")
TIMEOUT_S = 120


class BuildError(RuntimeError):
    """No library: the message says in one line why, and what to do."""


def load_library() -> tuple[ctypes.CDLL, str]:
    """The compiled kernels, built if need be, and a word on where they come from."""
    compiler = find_compiler()
    flags = compiler_flags()
    path = cache_folder() / f"{cache_key(compiler, flags)}.so"
    if not path.exists():
        compile_to(path, compiler, flags)
    try:
        return ctypes.CDLL(str(path)), f"compiled by {compiler[0]}, {path}"
    except OSError as error:
        raise BuildError(f"{path}: cannot be loaded ({error}); delete it and try again") from error


def find_compiler() -> list[str]:
    """The command that compiles C: `$CC`, else the first that is installed."""
    own = shlex.split(os.environ.get("CC", ""))
    for command in [own] if own else [[name] for name in COMPILERS]:
        if found := shutil.which(command[0]):
            return [found, *command[1:]]
    tried = f"CC={own[0]}" if own else ", ".join(COMPILERS)
    raise BuildError(f"no C compiler found ({tried}): install gcc or clang, or set CC")


def compiler_flags() -> list[str]:
    native = "-march=native" if platform.machine() in ("x86_64", "AMD64") else "-mcpu=native"
    return [
        *("-std=gnu11", "-O2", native, "-fopenmp-simd", "-fno-math-errno", "-fno-trapping-math"),
        *("-pthread", "-shared", "-fPIC"),
    ]


def cache_folder() -> Path:
    """Where compiled kernels are kept."""
    if own := os.environ.get("PELLUCID_CACHE"):
        return Path(own).expanduser() / "kernels"
    shared = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(shared).expanduser() / "pellucid" / "kernels"


def cache_key(compiler: list[str], flags: list[str]) -> str:
    """A name for all that the library depends on. The compiler is known by its file, not by asking
    it: that would cost every start a process."""
    file = Path(compiler[0]).resolve()
    stat = file.stat()
    parts = [*compiler, str(file), str(stat.st_size), str(stat.st_mtime_ns), *flags, processor()]
    digest = hashlib.sha256("\0".join(parts).encode())
    for source in SOURCES:
        digest.update(source.read_bytes())
    return digest.hexdigest()[:24]


def processor() -> str:
    """Model and instruction sets of this processor, as far as the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text().split("\n\n")[0].splitlines()
    except OSError:
        return f"{platform.machine()} {platform.processor()}"
    return "\n".join(
        line
        for line in lines
        if line.split("\t")[0] in ("model name", "flags", "Features", "CPU part")
    )


def compile_to(path: Path, compiler: list[str], flags: list[str]) -> None:
    """Compile the sources to `path`, all at once or not at all."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, part = tempfile.mkstemp(dir=path.parent, prefix=path.stem, suffix=".part")
    except OSError as error:
        raise BuildError(
            f"{path.parent}: cannot be written ({error.strerror}); set PELLUCID_CACHE elsewhere"
        ) from error
    os.close(handle)
    try:
        units = [str(source) for source in SOURCES if source.suffix == ".c"]
        run_compiler([*compiler, *flags, *units, "-o", part, "-lm"])
        os.chmod(part, 0o755)
        os.replace(part, path)
    finally:
        Path(part).unlink(missing_ok=True)


def run_compiler(command: list[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BuildError(
            f"{command[0]} did not run: {error}; set CC to another compiler"
        ) from error
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if "error" in line] or [
            done.stderr.strip()
        ]
        raise BuildError(
            f"{command[0]} failed with status {done.returncode}: {lines[0].strip()[:300]}; "
            "set CC to another compiler"
        )
