"""A cache must change nothing but the work: logits as without it, one row of work for a token."""

from __future__ import annotations

import random

import tiny
import torch
from torch.utils.flop_counter import FlopCounterMode

MODEL = tiny.make()
TOKENS = [random.Random(0).randrange(tiny.VOCAB) for _ in range(96)]


def parts(answer, *lengths: int) -> tuple[torch.Tensor, object]:
    """The tokens handed over in parts of these lengths: all logits, and the cache."""
    cache, start, found = answer.Cache(), 0, []
    for length in lengths:
        found.append(answer.forward(MODEL, TOKENS[start : start + length], cache))
        start += length
    return torch.cat(found), cache


def compare(answer, *lengths: int) -> None:
    found, _ = parts(answer, *lengths)
    expected = tiny.forward(MODEL, TOKENS[: sum(lengths)])
    assert found.shape == expected.shape, f"logits are {list(found.shape)}, not {[*expected.shape]}"
    wrong = ((found - expected).abs().amax(1) > 1e-9).nonzero().flatten().tolist()
    assert not wrong, f"other logits behind token {wrong[0] + 1}, and {len(wrong)} in all"


def prompt_at_once(answer) -> None:
    """A prompt gives the logits of a pass without a cache."""
    compare(answer, 20)


def token_by_token(answer) -> None:
    """So do a prompt of 8 and 12 single tokens behind it."""
    compare(answer, 8, *[1] * 12)


def in_pieces(answer) -> None:
    """So does a prompt in pieces of 7, 1, 9 and 3."""
    compare(answer, 7, 1, 9, 3)


def keeps_the_input(answer) -> None:
    """The first layer keeps keys and values of its input, a row for each token."""
    _, cache = parts(answer, 8, 1, 1)
    layer = MODEL.layers[0]
    x = tiny.norm(MODEL.embed[TOKENS[:10]] + MODEL.position[:10])
    for name, matrix in (("keys", layer.wk), ("values", layer.wv)):
        kept = getattr(cache, name)
        assert len(kept) == tiny.LAYERS, f"{name} of {len(kept)} layers are kept, not of 2"
        assert kept[0].shape == (10, tiny.DIM), f"{name} are {list(kept[0].shape)}, not [10, 32]"
        assert torch.allclose(kept[0], x @ matrix), f"these {name} are of something else"


def one_row_of_work(answer) -> None:
    """A token behind 95 others takes less than a thirtieth of the work of all 96."""
    cache = answer.Cache()
    answer.forward(MODEL, TOKENS[:95], cache)
    work = []
    for call in (
        lambda: answer.forward(MODEL, TOKENS[95:], cache),
        lambda: tiny.forward(MODEL, TOKENS),
    ):
        with FlopCounterMode(display=False) as counter:
            call()
        work.append(counter.get_total_flops())
    assert work[0] * 30 < work[1], f"it multiplies {work[0] / work[1]:.0%} of what all 96 take"


CHECKS = [prompt_at_once, token_by_token, in_pieces, keeps_the_input, one_row_of_work]
