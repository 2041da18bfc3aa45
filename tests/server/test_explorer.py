"""The Explorer's routes: what the page is told, measuring on a live server, the page's files."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from fake_engine import FakeEngine, fake_measure
from fake_server import Running

from pellucid.cli import main
from pellucid.errors import InputError
from pellucid.explore import calibrate as calibration
from pellucid.explore import runfile
from pellucid.features import FEATURES
from pellucid.request import Request, SamplingParams
from pellucid.server import page
from pellucid.server.protocol import Abort, Add, Measure, frame
from pellucid.server.worker import Channel, Hangup, serve_engine

BROWSER = {"accept": "text/html,application/xhtml+xml"}
SHORT = {"lengths": [64, 256, 1024], "blocks": 3}


def events(response: httpx.Response) -> list[dict[str, Any]]:
    lines = [line for line in response.iter_lines() if line.startswith("data: ")]
    return [json.loads(line.removeprefix("data: ")) for line in lines]


def measure(server: Running, **body: Any) -> list[dict[str, Any]]:
    with server.http().stream("POST", "/explorer/v1/measure", json=body) as response:
        assert response.status_code == 200, response.read()
        return events(response)


def test_capabilities(server: Running) -> None:
    told = server.http().get("/explorer/v1/capabilities").json()
    assert told["model"]["name"] == "fake" and told["model"]["spec"]["num_layers"] == 1
    switches = {row["key"]: row for row in told["switches"]}
    assert set(switches) == {f.key for f in FEATURES}
    for row in switches.values():
        assert row["why"] == told["engine"]["why"][row["key"]] != ""
        assert row["flag"] == f"--{row['key'].replace('_', '-')}"
        assert row["about"] and row["paper"] and row["choices"]
    assert switches["graphs"]["current"] == "off"
    assert "need an NVIDIA GPU" in switches["graphs"]["why"]
    assert max(told["measure"]["lengths"]) < told["model"]["context_length"]


def test_measuring_streams_progress_and_ends_in_a_run(server: Running) -> None:
    *before, last = measure(server, **SHORT)
    assert [e["type"] for e in before] == ["progress", "estimate", "cell"]
    assert before[2]["cell"] == last["run"]["cells"][0] and last["other"] is None
    assert before[1]["seconds"] == 2.5
    assert last["type"] == "run"
    runfile.validate(last["run"], "streamed")
    [answer] = last["answers"]
    assert answer["s10"]["kind"] == "measured" and answer["s10"]["status"] == "found"
    assert answer["s10"]["value"] == pytest.approx(256, rel=0.05)
    assert "attention reaches 10 % of a decode step at" in answer["sentence"]
    runs = server.http().get("/explorer/v1/runs").json()["runs"]
    assert runs[0]["id"] == last["run"]["id"]
    again = server.http().get(f"/explorer/v1/runs/{runs[0]['id']}").json()
    assert again == {"run": last["run"], "answers": last["answers"]}


def test_two_settings_in_turns_end_in_two_runs(server: Running) -> None:
    last = measure(server, **SHORT, against={"attention": "naive"})[-1]
    assert last["other"]["run"]["engine"]["switches"] == {"attention": "naive"}
    assert last["other"]["answers"][0]["s10"]["kind"] == "measured"
    known = {run["id"] for run in server.http().get("/explorer/v1/runs").json()["runs"]}
    assert {last["run"]["id"], last["other"]["run"]["id"]} <= known


LONG = {"lengths": [64, 256], "max_seconds": 0.5}  # the fake goes on for five seconds


def test_in_the_background_it_gives_way(start: Any) -> None:
    """To a request, which is answered at once, and to a change of switches."""
    for path, asked in (
        ("/v1/completions", {"prompt": "a", "max_tokens": 2}),
        ("/explorer/v1/switches", {"kv_cache": "off"}),
    ):
        with start(FakeEngine()) as server:
            body = {**LONG, "background": True}
            with server.http().stream("POST", "/explorer/v1/measure", json=body) as response:
                lines = response.iter_lines()
                next(lines)
                begin = time.monotonic()
                with httpx.Client(base_url=server.url, timeout=20) as http:
                    assert http.post(path, json=asked).status_code == 200
                assert time.monotonic() - begin < 1
                [error] = [json.loads(li[6:]) for li in lines if "gave_way" in li]
            assert error["error"]["code"] == "gave_way"


def test_one_that_is_asked_for_takes_the_place_of_one_in_the_background(start: Any) -> None:
    with start(FakeEngine()) as server:
        body = {**LONG, "background": True}
        with server.http().stream("POST", "/explorer/v1/measure", json=body) as response:
            lines = response.iter_lines()
            next(lines)
            with httpx.Client(base_url=server.url, timeout=20) as http:
                again = http.post("/explorer/v1/measure", json=body)
                assert again.status_code == 409, "there is one already"
                wanted = http.post("/explorer/v1/measure", json=SHORT)
            assert '"type": "run"' in wanted.text or '"type":"run"' in wanted.text


def test_an_operator_can_forbid_it(start: Any) -> None:
    with start(FakeEngine(), measures_itself=False) as server:
        http = server.http()
        told = http.get("/explorer/v1/capabilities").json()
        assert told["measure"]["by_itself"] is False
        refused = http.post("/explorer/v1/measure", json={**SHORT, "background": True})
        assert refused.status_code == 403 and "--no-auto-measure" in refused.text
        assert http.post("/explorer/v1/measure", json=SHORT).status_code == 200


def test_a_run_from_elsewhere_is_answered_as_recorded(server: Running) -> None:
    run = measure(server, **SHORT)[-1]["run"]
    http = server.http()
    [answer] = http.post("/explorer/v1/answers", json={"run": run}).json()["answers"]
    assert answer["s05"]["kind"] == "recorded"
    run["cells"][0]["wall_ns"][0] += 1
    refused = http.post("/explorer/v1/answers", json={"run": run})
    assert refused.status_code == 400
    assert "do not add up" in refused.json()["error"]["message"]


RECORDED = Path(__file__).parents[2] / "bench" / "results" / "run-smollm2-cpu.json"


def unknown(run: runfile.Record, seed: int) -> runfile.Record:
    """The same measurement under another id: no fit of it comes with the server."""
    content = {key: value for key, value in run.items() if key not in ("id", "schema")}
    return runfile.seal({**content, "settings": {"seed": seed}})


def test_the_fits_of_recorded_runs_come_with_the_server(
    server: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(run: runfile.Record) -> None:
        raise AssertionError("it was fitted again")

    monkeypatch.setattr(calibration, "calibrate", never)
    run = runfile.read(RECORDED)
    sent = server.http().post("/explorer/v1/calibrate", json={"run": run}).json()
    shipped = json.loads((RECORDED.parent / "calibrated-smollm2-cpu.json").read_text())
    assert sent == {key: value for key, value in shipped.items() if key != "environment"}


def test_a_run_is_calibrated_as_on_the_command_line(
    server: Running, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, machine = tmp_path / "run.json", tmp_path / "machine.json"
    run = unknown(runfile.read(RECORDED), 1)
    file.write_text(json.dumps(run))
    sent = server.http().post("/explorer/v1/calibrate", json={"run": run})
    assert sent.status_code == 200
    assert main(["calibrate", "--run", str(file), "--json", str(machine)]) == 0
    written = json.loads(machine.read_text())
    del written["environment"]
    assert sent.json() == written
    assert written["run"] == run["id"] and written["report"]["num_held_out"] > 0


def test_a_fit_leaves_the_others_their_turn(
    server: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It happens beside the event loop, and one at a time."""
    run, fitting, most = unknown(runfile.read(RECORDED), 2), 0, 0
    go = threading.Event()

    def slow(record: runfile.Record) -> calibration.Calibration:
        nonlocal fitting, most
        fitting += 1
        most = max(most, fitting)
        go.wait(10)
        fitting -= 1
        raise InputError(f"no fit of {record['id']}", param="run")

    monkeypatch.setattr(calibration, "calibrate", slow)

    def ask(statuses: list[int]) -> None:
        with httpx.Client(base_url=server.url, timeout=20) as http:
            statuses.append(http.post("/explorer/v1/calibrate", json={"run": run}).status_code)

    statuses: list[int] = []
    asking = [threading.Thread(target=ask, args=(statuses,)) for _ in range(2)]
    for thread in asking:
        thread.start()
    begun = time.monotonic()
    while not fitting and time.monotonic() < begun + 10:
        time.sleep(0.01)
    assert server.http().get("/health").status_code == 200
    assert not statuses
    go.set()
    for thread in asking:
        thread.join(10)
    assert statuses == [400, 400] and most == 1


def test_a_run_that_cannot_be_calibrated_says_why(server: Running) -> None:
    http = server.http()
    few = runfile.read(RECORDED)
    few = runfile.seal({**few, "cells": few["cells"][:5]})
    poor = measure(server, **SHORT)[-1]["run"]
    changed = {**few, "closure": 1.0}
    for run, words in (
        (few, "has 5 cells, and calibrating needs 6"),
        (poor, "limits.matmul_flop_s"),
        (changed, "id does not match"),
    ):
        refused = http.post("/explorer/v1/calibrate", json={"run": run})
        assert refused.status_code == 400
        assert words in refused.json()["error"]["message"]
        assert refused.json()["error"]["type"] == "invalid_request_error"
    assert http.post("/explorer/v1/calibrate", json={"ran": few}).status_code == 400
    assert http.get("/explorer/v1/calibrate").status_code == 405


def test_an_unknown_run_says_what_to_do(server: Running) -> None:
    response = server.http().get("/explorer/v1/runs/none")
    assert response.status_code == 404
    assert "import the run's file" in response.json()["error"]["message"]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"lengths": [10**6]}, "beyond the context"),
        ({"lengths": "64"}, "lengths"),
        ({"speed": 1}, "unknown field 'speed'"),
    ],
)
def test_bad_settings_are_a_plain_400(server: Running, body: dict[str, Any], words: str) -> None:
    response = server.http().post("/explorer/v1/measure", json=body)
    assert response.status_code == 400
    assert words in response.json()["error"]["message"]


def chat(server: Running, done: list[str]) -> None:
    answer = server.openai().completions.create(model="fake", prompt="SLOW", max_tokens=30)
    done.append(answer.choices[0].text)


def test_a_busy_engine_refuses_unless_forced_and_loses_nothing(start: Callable[..., Any]) -> None:
    with start(FakeEngine(step_s=0.005)) as server:
        done: list[str] = []
        talking = threading.Thread(target=chat, args=(server, done))
        talking.start()
        while not server.http().get("/health").json()["num_running"]:
            time.sleep(0.01)
        with httpx.Client(base_url=server.url, timeout=20) as http:
            refused = http.post("/explorer/v1/measure", json=SHORT)
            assert refused.status_code == 409
            assert "set force" in refused.json()["error"]["message"]
            assert not done
        assert measure(server, **SHORT, force=True)[-1]["type"] == "run"
        talking.join(20)
        assert len(done[0]) == 30


def test_leaving_ends_the_measurement_and_what_came_meanwhile_is_answered(
    start: Callable[..., Any],
) -> None:
    with start(FakeEngine()) as server:
        body = {**SHORT, "max_seconds": 0.5}  # the fake goes on for five seconds
        with httpx.Client(base_url=server.url, timeout=20) as http:
            with http.stream("POST", "/explorer/v1/measure", json=body) as response:
                lines = response.iter_lines()
                next(lines)
                done: list[str] = []
                talking = threading.Thread(target=chat, args=(server, done))
                talking.start()
                time.sleep(0.1)
                assert not done
                assert http.get("/health").json()["status"] == "ok"
            talking.join(3)
        assert len(done[0]) == 30


def test_what_comes_in_one_piece_with_the_end_is_not_lost() -> None:
    """The abort of a measurement, and behind it in the same packet a request."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        settings = {**SHORT, "max_seconds": 0.5}
        request = Request(id="r", prompt_token_ids=[97], params=SamplingParams(max_tokens=1))
        commands: list[Any] = [Measure("job", settings), Abort("job"), Add(request)]
        ours.sendall(b"".join(frame(command) for command in commands))
        engine = FakeEngine()
        args = (engine, Channel(theirs), 8, fake_measure)

        def serve() -> None:
            with contextlib.suppress(Hangup):
                serve_engine(*args)

        serving = threading.Thread(target=serve)
        serving.start()
        time.sleep(0.3)
        ours.shutdown(socket.SHUT_WR)
        serving.join(10)
        assert [r.id for r in engine.requests] == ["r"]


def test_without_a_build_the_page_says_what_to_run(
    server: Running, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    monkeypatch.setattr(page, "DIST", tmp_path)
    response = server.http().get("/", headers=BROWSER)
    assert response.status_code == 503
    assert "make page" in response.text
    assert server.http().get("/assets/x.js").status_code == 404


def test_the_page_and_its_files(
    start: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    (tmp_path / "assets").mkdir()
    (tmp_path / "index.html").write_text("<!doctype html><title>page</title>")
    (tmp_path / "assets" / "a-1.js").write_text("1")
    (tmp_path / "secret").write_text("no")
    monkeypatch.setattr(page, "DIST", tmp_path)
    with start(FakeEngine(), api_keys=["key"]) as server:
        http = server.http()
        shown = http.get("/", headers=BROWSER)
        assert shown.status_code == 200 and "page" in shown.text
        assert "default-src 'self'" in shown.headers["content-security-policy"]
        assert shown.headers["cache-control"] == "no-cache"
        script = http.get("/assets/a-1.js")
        assert script.text == "1" and "immutable" in script.headers["cache-control"]
        for path in ("/assets/..%2fsecret", "/assets/%2e%2e/secret", "/assets/none.js"):
            assert http.get(path).status_code in (401, 404)
        # The page is open, what it would show is not.
        for path in ("/", "/explorer/v1/capabilities", "/explorer/v1/runs"):
            assert http.get(path).status_code == 401
