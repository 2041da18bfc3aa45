"""What a right loop does, on a model made of a table and on SmolLM2."""

from __future__ import annotations

import math
import random

from pellucid import LLM, SamplingParams

PROMPT, LENGTH = "The capital of France is", 12


class Table:
    """A model that writes a, b, c and ends, whatever the prompt; it counts its passes."""

    ends = frozenset({0})

    def __init__(self) -> None:
        self.seen: list[list[int]] = []

    def encode(self, text: str) -> list[int]:
        return [9] * len(text)

    def next(self, tokens: list[int]) -> dict[int, float]:
        self.seen.append(list(tokens))
        likely = {9: 1, 1: 2, 2: 3, 3: 0}[tokens[-1]]
        return {n: math.log(0.7 if n == likely else 0.1) for n in range(4)}

    def decode(self, tokens: list[int]) -> str:
        return "".join(" abc"[token] for token in tokens)


class Real:
    """SmolLM2; a pass is an answer of one token."""

    def __init__(self) -> None:
        self.llm = LLM("smollm2", dtype="float32", memory=0.5, max_seqs=1)
        self.ends = frozenset(self.llm.engine.info.eos_token_ids)
        self.encode = self.llm.tokenizer.encode
        self.decode = self.llm.tokenizer.decode

    def next(self, tokens: list[int]) -> dict[int, float]:
        params = SamplingParams(temperature=0, max_tokens=1, logprobs=20, ignore_eos=True)
        scores = self.llm.generate(list(tokens), params)[0].logprobs
        return dict(scores[0].top)


def takes_the_likeliest(answer) -> None:
    """At temperature 0 the likeliest token is chosen."""
    found = answer.choose({5: -2.0, 7: -0.1, 9: -1.0}, 0, random.Random(0))
    assert found == 7, f"of 5: -2.0, 7: -0.1, 9: -1.0 token {found} was chosen"


def draws_by_the_odds(answer) -> None:
    """At temperature 1 a token comes as often as its probability says, at 2 less unevenly."""
    logprobs = {1: math.log(0.8), 2: math.log(0.2)}
    for temperature, expected in ((1, 0.8), (2, 2 / 3)):
        rng = random.Random(1)
        share = sum(answer.choose(logprobs, temperature, rng) == 1 for _ in range(4000)) / 4000
        assert abs(share - expected) < 0.03, (
            f"at temperature {temperature} a token of probability 0.8 beside one of 0.2 came "
            f"{share:.0%} of the time instead of {expected:.0%}"
        )


def stops(answer) -> None:
    """It stops at the token that ends an answer, and at max_tokens."""
    for most, text in ((10, "abc"), (2, "ab")):
        found = answer.generate(Table(), "xx", most, 0, random.Random(0))
        assert found == text, f"with max_tokens {most} it wrote {found!r} instead of {text!r}"


def one_pass_per_token(answer) -> None:
    """Each pass sees the prompt and all tokens so far, and gives one token more."""
    model = Table()
    answer.generate(model, "xx", 10, 0, random.Random(0))
    expected = [[9, 9], [9, 9, 1], [9, 9, 1, 2], [9, 9, 1, 2, 3]]
    assert model.seen == expected, f"the passes saw {model.seen}"


def writes_what_the_engine_writes(answer) -> None:
    """With SmolLM2 it writes what the engine writes."""
    model = Real()
    params = SamplingParams(temperature=0, max_tokens=LENGTH)
    expected = model.llm.generate(PROMPT, params)[0].text
    found = answer.generate(model, PROMPT, LENGTH, 0, random.Random(0))
    assert found == expected, f"it wrote {found!r}, the engine {expected!r}"


CHECKS = [
    takes_the_likeliest,
    draws_by_the_odds,
    stops,
    one_pass_per_token,
    writes_what_the_engine_writes,
]
