"""The engine says what `transformers` says: greedy tokens and log-probabilities in float32.

The golden files and how they were made: `tests/golden/make_golden.py`. All prompts of a model go
through the engine as one batch, so padding, block tables and chunks are on trial as well.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from pellucid import LLM, SamplingParams
from pellucid.request import Output, TokenLogprob

GOLDEN = Path(__file__).parent.parent / "golden"
NUM_TOKENS = 32
TOLERANCE = 2e-3
"""Largest difference of a log-probability; rounding alone gives about a hundredth of it."""

NEAR_TIE = 0.05
"""Difference of the two best log-probabilities that bf16 may turn around."""

CASES = [("smollm2", "dense"), ("smollm2", "packed"), ("gemma3-270m", "dense")]
FIXTURES = {"smollm2": "smollm2_path", "gemma3-270m": "gemma3_path"}


def golden(alias: str) -> dict[str, Any]:
    data: dict[str, Any] = json.loads((GOLDEN / f"{alias}.json").read_text(encoding="utf-8"))
    return data


def wrong_step(entry: dict[str, Any], step: int, got: TokenLogprob) -> str | None:
    """What differs at one step, or None.

    The k-th largest log-probability cannot move further than any one of them does, and a golden
    token that fell out of our top must lie within the tolerance of our last one.
    """
    want = entry["top"][step]
    if len(got.top) != len(want):
        return f"{len(got.top)} top tokens instead of {len(want)}"
    ours = dict(got.top)
    last = got.top[-1][1]
    errors = [abs(ours.get(token, last) - value) for token, value in want]
    errors += [abs(mine - theirs) for (_, mine), (_, theirs) in zip(got.top, want, strict=True)]
    errors.append(abs(got.logprob - entry["logprobs"][step]))
    # Not `max(errors) > TOLERANCE`: a NaN must count as wrong.
    if all(error <= TOLERANCE for error in errors):
        return None
    return f"log-probabilities differ by {max(errors):.2e}: {got.top} instead of {want}"


def differences(entry: dict[str, Any], output: Output) -> list[str]:
    """Every way in which an answer is not the golden one, a line each."""
    name, want, got = entry["name"], entry["token_ids"], output.token_ids
    if output.prompt_token_ids != entry["prompt_token_ids"]:
        return [f"{name}: the prompt's token ids came back changed"]
    if got != want:
        pairs = list(zip(got, want, strict=False))
        step = next((i for i, (a, b) in enumerate(pairs) if a != b), len(pairs))
        gap = f", where the gap is {entry['gaps'][step]:.1e}" if step < len(want) else ""
        return [f"{name}: step {step} differs{gap}: {got[step:]} instead of {want[step:]}"]
    if output.logprobs is None or len(output.logprobs) != len(want):
        return [f"{name}: not one log-probability per token"]
    lines = []
    for step, (token, logprob) in enumerate(zip(want, output.logprobs, strict=True)):
        if logprob.token_id != token:
            lines.append(f"{name}: step {step} gives the log-probability of {logprob.token_id}")
        elif reason := wrong_step(entry, step, logprob):
            lines.append(f"{name}: step {step}: {reason}")
    return lines


@pytest.mark.model
@pytest.mark.parametrize(("alias", "weights"), CASES)
def test_tokens_and_logprobs(alias: str, weights: str, request: pytest.FixtureRequest) -> None:
    if weights == "packed" and torch.cuda.is_available():
        pytest.skip("weights=packed is for the CPU")
    path: Path = request.getfixturevalue(FIXTURES[alias])
    data = golden(alias)
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    assert found == data["sha256"], f"{path} is not the file that the golden data was made from"

    entries = data["prompts"]
    llm = LLM(str(path), dtype="float32", weights=weights)
    params = SamplingParams(temperature=0, max_tokens=NUM_TOKENS, ignore_eos=True, logprobs=5)
    outputs = llm.generate([entry["prompt_token_ids"] for entry in entries], params)

    lines = [
        line
        for entry, output in zip(entries, outputs, strict=True)
        for line in differences(entry, output)
    ]
    assert not lines, "\n".join(lines)


@pytest.mark.gpu
@pytest.mark.model
@pytest.mark.parametrize("alias", sorted(FIXTURES))
def test_bf16_differs_only_at_near_ties(alias: str, request: pytest.FixtureRequest) -> None:
    """Where greedy decoding in bf16 leaves the float32 answer, its top two were almost equal."""
    entries = golden(alias)["prompts"]
    llm = LLM(str(request.getfixturevalue(FIXTURES[alias])), dtype="bfloat16")
    params = SamplingParams(temperature=0, max_tokens=NUM_TOKENS, ignore_eos=True)
    outputs = llm.generate([entry["prompt_token_ids"] for entry in entries], params)
    wide = []
    for entry, output in zip(entries, outputs, strict=True):
        pairs = enumerate(zip(output.token_ids, entry["token_ids"], strict=True))
        step = next((i for i, (got, want) in pairs if got != want), None)
        if step is not None and entry["gaps"][step] >= NEAR_TIE:
            wide.append(f"{entry['name']}: step {step}, gap {entry['gaps'][step]:.3f}")
    assert not wide, "\n".join(wide)


@pytest.mark.parametrize("alias", sorted(FIXTURES))
def test_golden_data_reaches_the_corners(alias: str) -> None:
    """The file is whole, and has the prompts that find particular mistakes."""
    entries = golden(alias)["prompts"]
    lengths = {entry["name"]: len(entry["prompt_token_ids"]) for entry in entries}
    assert len(entries) >= 12
    assert lengths["single_token"] == 1
    assert lengths["long"] >= 600
    assert lengths["cut_500"] < 512 < lengths["cut_500"] + NUM_TOKENS
    for entry in entries:
        assert len(entry["token_ids"]) == len(entry["logprobs"]) == NUM_TOKENS
        assert [step[0][0] for step in entry["top"]] == entry["token_ids"]


def test_a_wrong_answer_is_noticed() -> None:
    """Each kind of difference is reported, so that silence means agreement."""
    entry = golden("smollm2")["prompts"][0]
    tops = [[(token, value) for token, value in step] for step in entry["top"]]

    def answer(**changes: Any) -> Output:
        logprobs = [TokenLogprob(step[0][0], step[0][1], step) for step in tops]
        right = {
            "request_id": "0",
            "prompt_token_ids": entry["prompt_token_ids"],
            "token_ids": entry["token_ids"],
            "logprobs": logprobs,
        }
        return Output(**{**right, **changes})

    def logprobs_with(last: TokenLogprob) -> list[TokenLogprob]:
        return [*(answer().logprobs or [])[:-1], last]

    def shifted(by: float) -> TokenLogprob:
        return TokenLogprob(tops[-1][0][0], tops[-1][0][1] + by, tops[-1])

    assert differences(entry, answer()) == []
    assert differences(entry, answer(logprobs=logprobs_with(shifted(TOLERANCE / 2)))) == []
    swapped = [(tops[-1][1][0], tops[-1][0][1]), (tops[-1][0][0], tops[-1][1][1]), *tops[-1][2:]]
    for wrong in (
        answer(token_ids=entry["token_ids"][:-1]),
        answer(token_ids=[*entry["token_ids"][:-1], 0]),
        answer(prompt_token_ids=[1]),
        answer(logprobs=None),
        answer(logprobs=logprobs_with(shifted(2 * TOLERANCE))),
        answer(logprobs=logprobs_with(shifted(float("nan")))),
        answer(logprobs=logprobs_with(TokenLogprob(tops[-1][0][0], tops[-1][0][1], swapped))),
    ):
        assert len(differences(entry, wrong)) == 1
