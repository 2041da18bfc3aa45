"""Linear layers and embeddings from weights as they lie in a file.

Each weight is multiplied by the first method that can, of those that the switch `weights` names:
`dense` expands it on load, which works for every weight and is the off form; `packed` multiplies by
4- to 8-bit blocks as they are. Where a row's product must not depend on the other rows, or must be
float32 beside bfloat16 activations, the weight lies in strips (`strips.py`).

A layer may have several parts, weights that share an input (q, k and v; gate and up): they become
one matrix where that is possible, because one large product is faster than three small ones. A file
may mix kinds within a layer (q in Q4_1, v in Q8_0); such a layer is `Stacked`.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from itertools import groupby
from weakref import WeakValueDictionary

import torch

from pellucid.errors import InputError
from pellucid.kernels import KINDS, why_no_cpu_kernels
from pellucid.kernels.matrix import Matrix
from pellucid.quant.dense import Dense
from pellucid.quant.method import Embedding, WeightMethod
from pellucid.quant.packed import Packed
from pellucid.quant.strips import Strips
from pellucid.quant.weight import StoredWeight

METHODS: dict[str, tuple[WeightMethod, ...]] = {
    "dense": (Dense(),),
    "packed": (Packed(), Dense()),
    "dense strips": (Strips(),),
    "packed strips": (Strips(keeps=KINDS),),
}
"""What each value of the switch `weights` tries for a weight, in this order; and the same in
strips."""


def in_strips(method: str) -> str:
    """The method whose rows do not depend on each other, and else does as `method`."""
    return method if method.endswith("strips") else f"{method} strips"


def head_method(method: str, dtype: torch.dtype, device: torch.device) -> str:
    """What multiplies by the LM head, and looks up in an embedding that it may be tied to, where
    the layers have `method`.

    Logits are float32. On a CPU torch rounds the product of two bfloat16 matrices; our kernel does
    not, and is faster for the few rows that need logits.
    """
    rounds = device.type == "cpu" and dtype is torch.bfloat16
    return in_strips(method) if rounds and not why_no_cpu_kernels() else method


class Stacked(Matrix):
    """Several matrices over one input, outputs one behind the other."""

    def __init__(self, pieces: Sequence[Matrix]) -> None:
        self.pieces = pieces

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([piece(x) for piece in self.pieces], dim=1)

    @property
    def nbytes(self) -> int:
        return sum(piece.nbytes for piece in self.pieces)


_embeddings: WeakValueDictionary[Hashable, Embedding] = WeakValueDictionary()
"""Those in use, by the weight they were made from: a tied head must not take its memory twice."""


def make_linear(
    parts: Sequence[StoredWeight],
    bias: torch.Tensor | None,
    *,
    dtype: torch.dtype,
    device: torch.device,
    method: str,
) -> Matrix:
    """The matrix of `parts`, [rows, in] each, stacked along the output; bias [sum of rows].

    method: a key of `METHODS`; `InputError` if it does not work on `device`.
    """
    check_method(method, device)
    check_parts(parts, bias)
    if len(parts) == 1 and (tied := _embeddings.get(_key(parts[0], dtype, device, method))):
        return tied.head(bias)

    def joined(part: StoredWeight) -> tuple[WeightMethod, Hashable]:
        way = method_of(part, method)
        return way, way.joins(part)

    pieces: list[Matrix] = []
    start = 0
    for (way, _), group in groupby(parts, key=joined):
        piece = list(group)
        end = start + sum(part.shape[0] for part in piece)
        piece_bias = None if bias is None else bias[start:end]
        pieces.append(way.linear(piece, piece_bias, dtype, device))
        start = end
    return pieces[0] if len(pieces) == 1 else Stacked(pieces)


def make_embedding(
    weight: StoredWeight, *, dtype: torch.dtype, device: torch.device, method: str
) -> Embedding:
    """ids int64 [tokens] → rows [tokens, hidden] in `dtype`.

    A linear made of the same weight afterwards (a tied head) shares its memory.
    """
    check_method(method, device)
    check_parts([weight], None)
    embedding = method_of(weight, method).embedding(weight, dtype, device)
    _embeddings[_key(weight, dtype, device, method)] = embedding
    return embedding


def method_of(weight: StoredWeight, method: str) -> WeightMethod:
    """What multiplies by `weight` where the switch says `method`."""
    return next(way for way in METHODS[method] if not way.why_not(weight))


def _key(weight: StoredWeight, dtype: torch.dtype, device: torch.device, method: str) -> Hashable:
    return (weight.identity, str(dtype), str(device), method)


def check_method(method: str, device: torch.device) -> None:
    """Raise if there is no such method, or if it does not work on `device`."""
    if method not in METHODS:
        raise ValueError(f"unknown linear method {method!r}")
    if reason := METHODS[method][0].why_not_on(device):
        raise InputError(f"weights {method}: {reason}; or use weights dense", param="weights")


def check_parts(parts: Sequence[StoredWeight], bias: torch.Tensor | None) -> None:
    """Raise if the shapes do not fit together."""
    shapes = [part.shape for part in parts]
    if not parts or any(len(shape) != 2 or shape[1] != shapes[0][1] for shape in shapes):
        raise ValueError(f"these matrices do not share an input: {shapes}")
    rows = sum(shape[0] for shape in shapes)
    if bias is not None and bias.shape != (rows,):
        raise ValueError(f"bias {tuple(bias.shape)} does not fit {rows} outputs")
