"""Write the loop that turns a prompt into an answer, one token at a time.

`model` gives you everything else:

    model.encode(text)      the text's tokens, a list of ids
    model.next(tokens)      one pass: token id → log-probability of the 20 likeliest next tokens
    model.ends              the ids that end an answer
    model.decode(tokens)    the text of tokens
"""

from __future__ import annotations

import random


def choose(logprobs: dict[int, float], temperature: float, rng: random.Random) -> int:
    """The next token: the likeliest at temperature 0, else drawn.

    A token's chance is proportional to exp(log-probability / temperature).
    """
    raise NotImplementedError("choose a token")


def generate(model, prompt: str, max_tokens: int, temperature: float, rng: random.Random) -> str:
    """The answer's text: at most `max_tokens` tokens, or up to the one that ends it, without it."""
    tokens = model.encode(prompt)
    token = choose(model.next(tokens), temperature, rng)
    return model.decode([token])  # one token is no answer yet
