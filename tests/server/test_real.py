"""`pellucid serve` as it is: parent, worker, link, HTTP and page around the real engine.

Everything else in this folder has a fake engine behind it; here one tiny model of random weights
shows that the parts fit. What the engine computes is tested elsewhere.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from real_server import Program, serving
from test_restart import (
    SERVED_AGAIN_S,
    check_killed_streams,
    kill_under_streams,
    stream_to_the_end,
)

from pellucid.explore import runfile

TINY = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": 300,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 1024,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "tie_word_embeddings": True,
    "eos_token_id": 2,
}
PROMPT = [5, 6, 7, 8]
GREEDY = {"temperature": 0, "max_tokens": 8, "ignore_eos": True}
LONG = {"max_tokens": 900, "ignore_eos": True, "stream": True}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "tiny"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(TINY))
    (folder / "generation_config.json").write_text(json.dumps({"temperature": 0.7, "top_k": 50}))
    return folder


@pytest.fixture(scope="module")
def tiny(folder: Path) -> Iterator[Program]:
    options = ["--load-format", "dummy", "--dtype", "float32", "--device", "cpu"]
    with serving("--model", str(folder), *options) as program:
        yield program


def ids_of(answer: dict[str, Any]) -> list[int]:
    ids: list[int] = answer["choices"][0].get("token_ids", [])  # none in a last chunk
    return ids


def stream(program: Program, **body: Any) -> Iterator[dict[str, Any]]:
    """The events of a stream, up to [DONE]."""
    sent = {"prompt": PROMPT, **body, "stream": True}
    with program.http.stream("POST", "/v1/completions", json=sent) as response:
        assert response.status_code == 200
        for line in response.iter_lines():
            if line == "data: [DONE]":
                return
            if line.startswith("data: "):
                yield json.loads(line.removeprefix("data: "))


def test_a_completion_and_its_stream_agree(tiny: Program) -> None:
    answer = tiny.complete(PROMPT, **GREEDY, logprobs=1)
    assert len(ids_of(answer)) == 8
    assert answer["usage"] == {"prompt_tokens": 4, "completion_tokens": 8, "total_tokens": 12}
    chosen = answer["choices"][0]["logprobs"]
    for value, top in zip(chosen["token_logprobs"], chosen["top_logprobs"], strict=True):
        assert value == max(top.values()), "greedy"
    chunks = list(stream(tiny, **GREEDY))
    assert [i for chunk in chunks for i in ids_of(chunk)] == ids_of(answer)


def test_a_prompt_is_scored(tiny: Program) -> None:
    answer = tiny.complete(PROMPT, max_tokens=0, prompt_logprobs=1)
    assert answer["choices"][0]["prompt_logprobs"][0] is None
    assert len(answer["choices"][0]["prompt_logprobs"]) == len(PROMPT)
    assert answer["usage"]["completion_tokens"] == 0


def test_refusals_come_from_the_engine(tiny: Program) -> None:
    response = tiny.http.post("/v1/completions", json={"prompt": [1] * 1024})
    assert response.status_code == 400
    assert "maximum context length is 1024 tokens" in response.json()["error"]["message"]
    response = tiny.http.post("/v1/completions", json={"prompt": "text"})
    assert response.json()["error"]["code"] == "no_tokenizer"


def test_defaults_of_the_model(tiny: Program) -> None:
    (card,) = tiny.http.get("/v1/models").json()["data"]
    assert card["id"] == "tiny" and card["max_model_len"] == 1024
    assert card["sampling_defaults"] == {"temperature": 0.7, "top_k": 50}


def test_leaving_frees_the_blocks(tiny: Program) -> None:
    chunks = stream(tiny, **LONG)
    next(chunks)
    assert tiny.health()["num_running"] == 1
    chunks.close()  # type: ignore[attr-defined]
    wait_for(lambda: tiny.health()["num_running"] == 0)
    assert tiny.health()["num_blocks_used"] == 0


def test_measuring(tiny: Program) -> None:
    body = {"lengths": [32], "blocks": 2, "max_seconds": 1}
    with tiny.http.stream("POST", "/explorer/v1/measure", json=body) as response:
        lines = [line for line in response.iter_lines() if line.startswith("data: ")]
    events = [json.loads(line.removeprefix("data: ")) for line in lines]
    assert events[-1]["type"] == "run", events[-1]
    runfile.validate(events[-1]["run"], "the run")
    assert tiny.http.get("/explorer/v1/runs").json()["runs"][0]["id"] == events[-1]["run"]["id"]


def test_the_page(tiny: Program) -> None:
    """It is there, or says how to build it."""
    response = tiny.http.get("/", headers={"accept": "text/html"})
    assert response.headers["content-type"].startswith("text/html")
    assert "pellucid" in response.text
    assert response.status_code == 200 or (
        response.status_code == 503 and "make page" in response.text
    )


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_parent_has_no_torch(tiny: Program) -> None:
    """It answers HTTP; the libraries that compute are the engine's process's."""
    assert has_torch(tiny.worker.pid)
    assert not has_torch(tiny.process.pid)


def has_torch(pid: int) -> bool:
    return "libtorch" in Path(f"/proc/{pid}/maps").read_text()


def test_a_killed_engine_comes_back_the_same(tiny: Program) -> None:
    before = ids_of(tiny.complete(PROMPT, **GREEDY))
    wait_for(lambda: tiny.health()["spare"], 30)
    seen, seconds = kill_under_streams(tiny.url, tiny.worker.pid, PROMPT)
    check_killed_streams(seen)
    assert seconds < SERVED_AGAIN_S
    assert ids_of(tiny.complete(PROMPT, **GREEDY)) == before
    assert tiny.health()["restarts"] == 1


def test_an_error_in_a_kernel_ends_one_stream_of_several(start: Any, folder: Path) -> None:
    """What each client sees: one its tokens and then the error, the others their whole answers."""
    command = (sys.executable, str(Path(__file__).with_name("fragile_worker.py")), str(folder))
    with start(command=command, tokenizer=None) as server:
        sound, guilty = [5] * 40, [6] * 21  # the second comes to 25 tokens, the first are beyond
        begun = threading.Semaphore(0)
        ends: dict[int, list[str]] = {}

        def ask(number: int, prompt: list[int]) -> None:
            ends[number] = stream_to_the_end(server.url, prompt, begun, max_tokens=60)

        prompts = [sound, sound, guilty, sound]
        threads = [threading.Thread(target=ask, args=item) for item in enumerate(prompts)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        *tokens, last = [json.loads(event) for event in ends.pop(2)]
        assert sum(len(ids_of(chunk)) for chunk in tokens) == 4
        assert last["error"]["code"] == "engine_error"
        assert "an illegal instruction was met" in last["error"]["message"]
        for events in ends.values():
            *chunks, done = events
            assert done == "[DONE]"
            assert sum(len(ids_of(json.loads(chunk))) for chunk in chunks) == 60
        body = {"prompt": sound, "max_tokens": 1}
        assert server.http().post("/v1/completions", json=body).status_code == 200
        assert server.http().get("/health").json()["restarts"] == 0


@pytest.mark.model
def test_smollm2_is_served_again_within_seconds() -> None:
    with serving("--model", "smollm2") as program:
        before = program.complete("The capital of France is", temperature=0, max_tokens=8)
        wait_for(lambda: program.health()["spare"], 30)
        seen, seconds = kill_under_streams(program.url, program.worker.pid, "Count: one, two,")
        check_killed_streams(seen)
        print(f"served {seconds:.2f} s after the kill")
        assert seconds < SERVED_AGAIN_S
        after = program.complete("The capital of France is", temperature=0, max_tokens=8)
        assert after["choices"] == before["choices"]


def wait_for(condition: Callable[[], bool], seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)
