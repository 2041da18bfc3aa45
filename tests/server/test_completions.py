"""/v1/completions through the real client."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from typing import Any

import openai
import pytest
from fake_engine import BOS, CONTEXT_LENGTH, EOS, ODD, FakeEngine, letters
from fake_server import Running


def joined(lists: Iterable[list[Any]]) -> list[Any]:
    return list(itertools.chain.from_iterable(lists))


def test_text_and_usage(server: Running) -> None:
    answer = server.openai().completions.create(model="fake", prompt="hello", max_tokens=5)
    assert answer.choices[0].text == letters(0, 5)
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (6, 5)
    assert answer.usage.total_tokens == 11
    assert server.engine and server.engine.requests[0].prompt_token_ids == [BOS, *b"hello"]


def test_defaults(server: Running) -> None:
    answer = server.openai().completions.create(model="alias", prompt="x")
    assert answer.model == "alias"
    assert answer.choices[0].text == letters(0, 16), "OpenAI's default of 16 tokens"


def test_ends_by_itself(server: Running) -> None:
    answer = server.openai().completions.create(model="fake", prompt="x", max_tokens=100)
    assert answer.choices[0].finish_reason == "stop"
    assert answer.choices[0].text == letters(0, 40)


@pytest.mark.parametrize(
    ("prompt", "ids"),
    [
        ("ab", [[BOS, 97, 98]]),
        (["a", "b"], [[BOS, 97], [BOS, 98]]),
        ([97, 98], [[97, 98]]),
        ([[97], [98, 99]], [[97], [98, 99]]),
    ],
)
def test_prompt_forms(server: Running, prompt: Any, ids: list[list[int]]) -> None:
    answer = server.openai().completions.create(model="fake", prompt=prompt, max_tokens=2, n=3)
    assert server.engine and [r.prompt_token_ids for r in server.engine.requests] == ids
    assert [choice.index for choice in answer.choices] == list(range(3 * len(ids)))
    assert [choice.text for choice in answer.choices] == [letters(k, 2) for k in range(3)] * len(
        ids
    )
    assert answer.usage and answer.usage.completion_tokens == 6 * len(ids)
    assert answer.usage.prompt_tokens == sum(map(len, ids)), "a prompt counts once, whatever n"


def test_no_special_tokens(server: Running) -> None:
    extra = {"add_special_tokens": False}
    server.openai().completions.create(model="fake", prompt="ab", extra_body=extra)
    assert server.engine and server.engine.requests[0].prompt_token_ids == [97, 98]


def test_stop(server: Running) -> None:
    for stop in ("def", ["zz", "def"]):
        answer = server.openai().completions.create(
            model="fake", prompt="x", stop=stop, max_tokens=30
        )
        assert answer.choices[0].text == "abc"
        assert answer.choices[0].finish_reason == "stop"
        assert answer.choices[0].model_extra == {"stop_reason": "def"}


@pytest.mark.parametrize("num_top", [0, 1, 3])
def test_logprobs(server: Running, num_top: int) -> None:
    answer = server.openai().completions.create(
        model="fake", prompt="x", max_tokens=4, logprobs=num_top
    )
    logprobs = answer.choices[0].logprobs
    assert logprobs and logprobs.tokens == list("abcd")
    assert logprobs.text_offset == [0, 1, 2, 3]
    assert logprobs.token_logprobs and logprobs.top_logprobs
    for k, (token, value, top) in enumerate(
        zip(logprobs.tokens, logprobs.token_logprobs, logprobs.top_logprobs, strict=True)
    ):
        assert top[token] == value, "the same float"
        greedy = value == max(top.values())
        assert greedy == (k % 2 == 0 or num_top == 0)
        assert len(top) == (num_top if greedy and num_top else num_top + 1)


def test_harness_scoring(server: Running) -> None:
    """What lm-eval's loglikelihood sends and reads."""
    prompts = [[97, 98, 99, 100], [ODD, 101]]
    answer = server.openai().completions.create(
        model="fake",
        prompt=prompts,
        echo=True,
        logprobs=1,
        max_tokens=1,
        temperature=0,
        seed=1234,
    )
    for choice, ids in zip(answer.choices, prompts, strict=True):
        logprobs = choice.logprobs
        assert logprobs and logprobs.token_logprobs and logprobs.top_logprobs and logprobs.tokens
        assert len(logprobs.token_logprobs) == len(logprobs.top_logprobs) == len(ids) + 1
        assert logprobs.token_logprobs[0] is None and logprobs.top_logprobs[0] is None
        for token, value, top in zip(
            logprobs.tokens[1:-1],
            logprobs.token_logprobs[1:-1],
            logprobs.top_logprobs[1:-1],
            strict=True,
        ):
            assert top[token] == value
            assert (value == max(top.values())) == (value != -7.5)
    assert answer.choices[0].text == "abcda"
    first, second = (choice.logprobs for choice in answer.choices)
    assert first and first.text_offset == [0, 1, 2, 3, 4]
    assert second and second.tokens == ["bytes:\\xc3", "e", "a"]
    assert server.engine and server.engine.requests[0].params.prompt_logprobs == 1


def test_echo_of_text(server: Running) -> None:
    answer = server.openai().completions.create(
        model="fake", prompt="hey ", max_tokens=2, echo=True, logprobs=0
    )
    choice = answer.choices[0]
    assert choice.text == "hey ab"
    assert choice.logprobs and choice.logprobs.tokens == ["<bos>", *"hey ", "a", "b"]
    offsets = choice.logprobs.text_offset
    assert offsets == [0, 0, 1, 2, 3, 4, 5], "a token that is not in the text has no width"


def test_prompt_logprobs_and_ids(server: Running) -> None:
    extra = {"prompt_logprobs": 2, "return_token_ids": True}
    answer = server.openai().completions.create(
        model="fake", prompt=[97, 98], max_tokens=2, extra_body=extra
    )
    more = answer.choices[0].model_extra
    assert more and more["token_ids"] == [97, 98] and more["prompt_token_ids"] == [97, 98]
    nothing, entry = more["prompt_logprobs"]
    assert nothing is None
    assert entry["token"] == "b" and entry["token_id"] == 98 and entry["bytes"] == [98]
    assert len(entry["top_logprobs"]) == 2


def test_stream_joins_to_the_plain_answer(server: Running) -> None:
    """With everything on, the deltas of each choice add up to the whole."""
    fields: dict[str, Any] = {
        "model": "fake",
        "prompt": ["hé", "b"],
        "n": 2,
        "max_tokens": 7,
        "echo": True,
        "logprobs": 2,
        "stop": "ef",
        "extra_body": {
            "return_token_ids": True,
            "prompt_logprobs": 1,
            "return_tokens_as_token_ids": True,
            "include_stop_str_in_output": True,
        },
    }
    client = server.openai()
    whole = client.completions.create(**fields).to_dict()
    chunks = list(
        client.completions.create(**fields, stream=True, stream_options={"include_usage": True})
    )
    *body, last = [chunk.to_dict() for chunk in chunks]
    assert last["choices"] == [] and last["usage"] == whole["usage"]
    assert all(chunk["usage"] is None for chunk in body)
    for choice in whole["choices"]:
        mine = [
            entry
            for chunk in body
            for entry in chunk["choices"]
            if entry["index"] == choice["index"]
        ]
        *content, end = mine
        assert end["finish_reason"] == choice["finish_reason"] and end["text"] == ""
        assert all(entry["finish_reason"] is None for entry in content)
        assert "".join(entry["text"] for entry in content) == choice["text"]
        assert joined(entry["token_ids"] for entry in content) == choice["token_ids"]
        for key, values in choice["logprobs"].items():
            assert joined(entry["logprobs"][key] for entry in content) == values
        assert content[0]["prompt_logprobs"] == choice["prompt_logprobs"]
        assert content[0]["prompt_token_ids"] == choice["prompt_token_ids"]


def test_continuous_usage(server: Running) -> None:
    chunks = server.openai().completions.create(
        model="fake",
        prompt="x",
        max_tokens=3,
        stream=True,
        stream_options={"include_usage": True},
        extra_body={"stream_options": {"include_usage": True, "continuous_usage_stats": True}},
    )
    counts = [chunk.usage.completion_tokens for chunk in chunks if chunk.usage]
    assert counts == sorted(counts) and counts[-1] == 3 and len(counts) >= 4


def test_raw_stream_ends_as_clients_expect(server: Running) -> None:
    body = {"model": "fake", "prompt": "x", "stream": True}
    with server.http().stream("POST", "/v1/completions", json=body) as response:
        lines = [line for line in response.iter_lines() if line]
    assert response.headers["content-type"].startswith("text/event-stream")
    assert all(line.startswith("data: ") for line in lines)
    assert lines[-1] == "data: [DONE]"
    assert not any('"usage"' in line for line in lines), "only when asked for"


def test_without_tokenizer(start: Any) -> None:
    with start(FakeEngine(), tokenizer=None) as server:
        client = server.openai()
        answer = client.completions.create(model="fake", prompt=[1, 2], max_tokens=3, logprobs=1)
        choice = answer.choices[0]
        assert choice.text == "abc" and choice.model_extra["token_ids"] == [97, 98, 99]
        assert choice.logprobs.tokens == ["token_id:97", "token_id:98", "token_id:99"]
        for fields in ({"prompt": "text"}, {"prompt": [1], "stop": "x"}):
            with pytest.raises(openai.BadRequestError, match="tokenizer"):
                client.completions.create(model="fake", **fields)
        with pytest.raises(openai.BadRequestError, match="tokenizer"):
            client.chat.completions.create(
                model="fake", messages=[{"role": "user", "content": "x"}]
            )
        for path, body in (("/tokenize", {"prompt": "x"}), ("/detokenize", {"tokens": [1]})):
            assert server.http().post(path, json=body).json()["error"]["code"] == "no_tokenizer"


def test_numbers_survive(server: Running) -> None:
    """Floats come out as they went in: no rounding between engine and client."""
    answer = server.openai().completions.create(model="fake", prompt="x", max_tokens=3, logprobs=1)
    logprobs = answer.choices[0].logprobs
    assert logprobs and logprobs.token_logprobs
    assert logprobs.token_logprobs[2] == -0.25 - 2 / 100
    assert not any(math.isnan(value) for value in logprobs.token_logprobs if value is not None)


def complete(server: Running, prompt: Any, **body: Any) -> dict[str, Any]:
    """The one choice of a call by plain HTTP."""
    response = server.http().post("/v1/completions", json={"prompt": prompt, **body})
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return {**answer["choices"][0], "usage": answer["usage"]}


def sent(server: Running) -> list[int]:
    assert server.engine
    ids: list[int] = server.engine.requests[-1].prompt_token_ids
    return ids


def test_special_tokens_in_a_text_prompt(server: Running) -> None:
    complete(server, "a<eos>b")
    assert sent(server) == [BOS, 97, EOS, 98]
    complete(server, "a<eos>b", parse_special=False, add_special_tokens=False)
    assert sent(server) == [*b"a<eos>b"]


def test_the_stop_string_can_stay(server: Running) -> None:
    assert complete(server, "x", stop="cd")["text"] == "ab"
    choice = complete(server, "x", stop=["z", "cd"], include_stop_str_in_output=True)
    assert (choice["text"], choice["stop_reason"]) == ("abcd", "cd")
    choice = complete(server, "x", stop="z", max_tokens=3, include_stop_str_in_output=True)
    assert (choice["text"], choice["stop_reason"]) == ("abc", None)


def test_tokens_can_be_named_by_their_ids(server: Running) -> None:
    body = {"logprobs": 1, "max_tokens": 1, "return_tokens_as_token_ids": True}
    logprobs = complete(server, "x", echo=True, **body)["logprobs"]
    assert logprobs["tokens"] == [f"token_id:{BOS}", "token_id:120", "token_id:97"]
    assert list(logprobs["top_logprobs"][-1]) == ["token_id:97"]
    assert logprobs["text_offset"] == [0, 0, 1], "counted in the text, as without"


@pytest.mark.parametrize(
    ("prompt", "kept", "want"),
    [
        ("abcd", 9, [BOS, *b"abcd"]),
        ("abcd", 3, [BOS, *b"cd"]),
        ("abcd", 1, [BOS]),
        ([97, 98, 99], 2, [98, 99]),
        ([1] * CONTEXT_LENGTH, -1, [1] * (CONTEXT_LENGTH - 5)),
    ],
)
def test_a_prompt_can_be_truncated(server: Running, prompt: Any, kept: int, want: Any) -> None:
    choice = complete(server, prompt, truncate_prompt_tokens=kept, max_tokens=5, echo=True)
    assert sent(server) == want
    assert choice["usage"]["prompt_tokens"] == len(want)
    text = bytes(token for token in want if token < 256).decode()
    assert choice["text"] == text + "abcde", "echo repeats what the model was given"


def test_a_prompt_can_be_scored_without_an_answer(server: Running) -> None:
    body: dict[str, Any] = {"max_tokens": 0, "echo": True, "logprobs": 1}
    choice = complete(server, "hey", **body)
    assert choice["text"] == "hey" and choice["finish_reason"] == "length"
    assert choice["logprobs"]["tokens"] == ["<bos>", "h", "e", "y"]
    assert len(choice["logprobs"]["token_logprobs"]) == 4
    assert choice["usage"]["completion_tokens"] == 0
    client = server.openai()
    chunks = client.completions.create(model="fake", prompt="hey", stream=True, **body)
    pieces = [chunk.choices[0] for chunk in chunks]
    assert "".join(piece.text for piece in pieces) == "hey"
    assert [piece.finish_reason for piece in pieces] == [None, "length"]
    prompt_only = complete(server, "hey", max_tokens=0, prompt_logprobs=1)
    assert prompt_only["text"] == "" and len(prompt_only["prompt_logprobs"]) == 4


def test_without_a_limit(server: Running) -> None:
    assert complete(server, "x", max_tokens=-1)["text"] == letters(0, 40)
    assert server.engine and server.engine.requests[-1].params.max_tokens is None
