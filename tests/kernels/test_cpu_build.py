"""Compiling on first use: what is kept, what is said when it fails."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pellucid import kernels
from pellucid.errors import InputError
from pellucid.kernels.cpu import build


@pytest.fixture
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty cache and nothing loaded."""
    monkeypatch.setenv("PELLUCID_CACHE", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    kernels._load.cache_clear()
    yield tmp_path
    kernels._load.cache_clear()


def script(path: Path, text: str) -> Path:
    path.write_text("#!/bin/sh\n" + text)
    path.chmod(0o755)
    return path


def test_no_compiler(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(fresh))
    ready, line = kernels.status()
    assert not ready
    assert line == "no C compiler found (cc, gcc, clang): install gcc or clang, or set CC"
    with pytest.raises(kernels.BuildError, match="no C compiler"):
        kernels.cpu_kernels()


def test_missing_cc(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "/nowhere/cc -O1")
    assert "no C compiler found (CC=/nowhere/cc)" in kernels.status().line


def test_failing_compiler_is_quoted(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = script(fresh / "cc", "echo 'linear.c:1: error: no such thing' >&2; exit 3")
    monkeypatch.setenv("CC", str(command))
    ready, line = kernels.status()
    assert not ready and "\n" not in line
    assert "status 3" in line and "linear.c:1: error: no such thing" in line and "set CC" in line
    assert not list((fresh / "kernels").iterdir())


def test_cache_that_cannot_be_written(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (fresh / "file").touch()
    monkeypatch.setenv("PELLUCID_CACHE", str(fresh / "file"))
    assert "cannot be written" in kernels.status().line


def test_library_that_cannot_be_loaded(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = script(fresh / "cc", 'while [ "$1" != -o ]; do shift; done; echo junk > "$2"')
    monkeypatch.setenv("CC", str(command))
    ready, line = kernels.status()
    assert not ready and "cannot be loaded" in line


def test_asking_for_packed_without_a_compiler(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from pellucid.quant.linear import make_linear
    from pellucid.quant.weight import BlockWeight

    monkeypatch.setenv("PATH", str(fresh))
    weight = BlockWeight("w", "Q4_1", (16, 32), torch.zeros(16, 20, dtype=torch.uint8))
    cpu = torch.device("cpu")
    assert "no C compiler" in kernels.why_no_cpu_kernels()
    with pytest.raises(InputError, match=r"weights packed: no C compiler.*use weights dense"):
        make_linear([weight], None, dtype=torch.float32, device=cpu, method="packed")


def test_key_depends_on_everything(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = script(fresh / "a", ""), script(fresh / "b", "")
    keys = {
        build.cache_key([str(one)], ["-O2"]),
        build.cache_key([str(two)], ["-O2"]),
        build.cache_key([str(one), "-m32"], ["-O2"]),
        build.cache_key([str(one)], ["-O3"]),
    }
    monkeypatch.setattr(build, "processor", lambda: "another")
    keys.add(build.cache_key([str(one)], ["-O2"]))
    source = fresh / "linear.c"
    source.write_text("int x;")
    monkeypatch.setattr(build, "SOURCES", [source])
    keys.add(build.cache_key([str(one)], ["-O2"]))
    assert len(keys) == 6


@pytest.mark.skipif(not kernels.status().ready, reason=kernels.status().line)
def test_two_processes_at_once(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = build.find_compiler()[0]  # the last -O counts: 1.3 s instead of 6.7
    monkeypatch.setenv("CC", str(script(fresh / "quick-cc", f'exec {real} "$@" -O0')))
    code = (
        "import torch; from pellucid import kernels; k = kernels.cpu_kernels();"
        "m = k.pack('Q8_0', torch.zeros(16, 34, dtype=torch.uint8), 32);"
        "print(m.matmul(torch.ones(1, 32)).abs().sum().item())"
    )
    children = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    assert [child.communicate(timeout=120)[0].strip() for child in children] == ["0.0", "0.0"]
    files = list((fresh / "kernels").iterdir())
    assert [file.suffix for file in files] == [".so"]
    again = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PELLUCID_CACHE": str(fresh)},
        capture_output=True, text=True,
    )  # fmt: skip
    assert again.stdout.strip() == "0.0", again.stderr
    assert list((fresh / "kernels").iterdir()) == files
