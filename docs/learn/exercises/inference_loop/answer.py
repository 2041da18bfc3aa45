"""One way to write the loop."""

from __future__ import annotations

import math
import random


def choose(logprobs: dict[int, float], temperature: float, rng: random.Random) -> int:
    """The next token: the likeliest at temperature 0, else drawn."""
    if temperature == 0:
        return max(logprobs, key=logprobs.__getitem__)
    highest = max(logprobs.values())  # taken off first, so that exp cannot overflow
    weights = [math.exp((value - highest) / temperature) for value in logprobs.values()]
    return rng.choices(list(logprobs), weights)[0]


def generate(model, prompt: str, max_tokens: int, temperature: float, rng: random.Random) -> str:
    """The answer's text."""
    tokens = model.encode(prompt)
    num_prompt = len(tokens)
    while len(tokens) < num_prompt + max_tokens:
        token = choose(model.next(tokens), temperature, rng)
        if token in model.ends:
            break
        tokens.append(token)
    return model.decode(tokens[num_prompt:])
