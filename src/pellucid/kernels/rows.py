"""What follows on the device from the few numbers that the host sends for each row of a step.

The host sends a token, its position, and the row's place in the tables of sequences. From these
follow, without the host: the token itself if the step before sampled it, where its keys and values
go, how much context it sees, the row's block table, its sampling settings, and the key of its
random draw. `prepare` is the slow twin of kernels/triton/inputs.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from pellucid.kernels.columns import Column


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
    settings: Tensor
    """int32 [NUM_COLUMNS, R], see columns.py"""
    tables: Tensor
    """int32 [R, blocks], right as far as the context goes"""


Prepare = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, int, Tensor], Prepared]


@contextmanager
def nothing_to_compile() -> Iterator[None]:
    """There are no kernels that are compiled when they are first used."""
    yield


@dataclass(frozen=True, slots=True)
class RowKernels:
    """What padded steps need besides model and sampler."""

    prepare: Prepare
    ahead: Callable[[], AbstractContextManager[None]] = nothing_to_compile
    """Steps inside only compile what they would launch."""


def prepare(
    tokens: Tensor,
    positions: Tensor,
    places: Tensor,
    draw_places: Tensor,
    tables: Tensor,
    columns: Tensor,
    sampled: Tensor,
    page: int,
    out_tables: Tensor,
) -> Prepared:
    """tokens, positions, places int64 [R], and draw_places, whose settings a row gets; tables int32
    [S, blocks], columns int32 [NUM_COLUMNS, S] and sampled int64 [S] by place; out_tables int32
    [R, blocks] is written.

    A token below 0 is -1 - place: what that sequence sampled last. `page` is the tokens of a block.
    """
    settings = columns[:, draw_places]
    out_tables.copy_(tables[places])
    blocks = out_tables.gather(1, (positions // page)[:, None])[:, 0].long()
    return Prepared(
        resolve(tokens, sampled),
        blocks * page + positions % page,
        (positions + 1).int(),
        draw_keys(settings, positions),
        settings,
        out_tables,
    )


def resolve(tokens: Tensor, sampled: Tensor) -> Tensor:
    """Tokens with -1 - place replaced by sampled[place]; 0 where that one had no token to draw.
    int64 both."""
    return torch.where(tokens < 0, sampled[(-1 - tokens).clamp_min(0)].clamp_min(0), tokens)


def draw_keys(settings: Tensor, positions: Tensor) -> Tensor:
    """The key of each row's draw, int64 [R]: 64 bits that depend on its seed and on the position of
    its last token, and on nothing else.

    Two rounds of SplitMix64's finalizer (Steele et al. 2014, doi:10.1145/2660193.2660195). The
    drawn token takes the next position, and 0 is no number to mix, hence the 2.
    """
    low = settings[Column.SEED_LOW].long() & 0xFFFFFFFF
    seeds = settings[Column.SEED_HIGH].long() << 32 | low
    return _mix(_mix(seeds) ^ (positions + 2))


def _mix(z: Tensor) -> Tensor:
    """SplitMix64's finalizer; int64 wraps around as uint64 does."""
    z = z + _signed(0x9E3779B97F4A7C15)
    z = (z ^ _shifted(z, 30)) * _signed(0xBF58476D1CE4E5B9)
    z = (z ^ _shifted(z, 27)) * _signed(0x94D049BB133111EB)
    return z ^ _shifted(z, 31)


def _shifted(z: Tensor, by: int) -> Tensor:
    """To the right, with zeros coming in from the left."""
    return (z >> by) & ((1 << 64 - by) - 1)


def _signed(bits: int) -> int:
    return bits - (bits >> 63 << 64)
