"""What a padded decode step needs around the model: inputs derived before it, tokens chosen after.

`DecodeKernels` holds the two functions; on a GPU they are kernels/triton/inputs.py and sample.py.
`prepare` here is the slow twin of the first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor


class Prepared(NamedTuple):
    """Inputs of R rows with one token each."""

    tokens: Tensor
    """int64 [R], all known now"""
    slots: Tensor
    """int64 [R], where in the KV pool each one's keys and values go"""
    contexts: Tensor
    """int32 [R], tokens each one sees, itself included"""
    keys: Tensor
    """int64 [R], the key of each one's random draw: a function of seed and position alone"""


def prepare(
    tokens: Tensor, positions: Tensor, tables: Tensor, seeds: Tensor, sampled: Tensor, page: int
) -> Prepared:
    """tokens, positions, seeds int64 [R]; tables int32 [R, blocks]; sampled int64 [R'].

    A token below 0 is -1 - i and stands for sampled[i]; `page` is the tokens of a block.
    """
    known = torch.where(tokens < 0, sampled[(-1 - tokens).clamp_min(0)], tokens)
    blocks = tables.gather(1, (positions // page)[:, None])[:, 0].long()
    keys = _mix(_mix(seeds) ^ (positions + 2))
    return Prepared(known, blocks * page + positions % page, (positions + 1).int(), keys)


def _mix(z: Tensor) -> Tensor:
    """SplitMix64's finalizer (Steele et al. 2014); int64 wraps around as uint64 does."""
    z = z + _signed(0x9E3779B97F4A7C15)
    z = (z ^ _shifted(z, 30)) * _signed(0xBF58476D1CE4E5B9)
    z = (z ^ _shifted(z, 27)) * _signed(0x94D049BB133111EB)
    return z ^ _shifted(z, 31)


def _shifted(z: Tensor, by: int) -> Tensor:
    """To the right, with zeros coming in from the left."""
    return (z >> by) & ((1 << 64 - by) - 1)


def _signed(bits: int) -> int:
    return bits - (bits >> 63 << 64)


Prepare = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor, int], Prepared]
Choose = Callable[[Tensor, Tensor, Tensor], Tensor]
"""logits [R, vocab], temperatures float32 [R], keys int64 [R] → tokens int64 [R]"""


@contextmanager
def nothing_to_compile() -> Iterator[None]:
    """There are no kernels that are compiled when they are first used."""
    yield


@dataclass(frozen=True, slots=True)
class DecodeKernels:
    prepare: Prepare
    choose: Choose | None
    """None: the sampler chooses, outside the step."""
    ahead: Callable[[], AbstractContextManager[None]] = nothing_to_compile
    """Steps inside only compile what they would launch."""

    @property
    def samples(self) -> bool:
        return self.choose is not None
