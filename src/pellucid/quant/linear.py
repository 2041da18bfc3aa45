"""Linear layers and embeddings from weights as they lie in a file: the choice of a method.

`dense` expands blocks on load and is the off form; `packed` multiplies by them as they are. A
layer may have several parts, row blocks that share an input (q, k and v; gate and up): they become
one matrix where that is possible, because one large product is faster than three small ones.

What `packed` does not cover, it leaves to `dense`, part by part: kinds that are no blocks (F32,
F16, BF16). A file may mix kinds within a layer; such a layer is `Stacked`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby
from weakref import WeakValueDictionary

import torch

from pellucid.errors import InputError
from pellucid.kernels import BuildError, cpu_kernels
from pellucid.kernels.matrix import Matrix
from pellucid.quant.dense import DenseEmbedding, DenseLinear, expand
from pellucid.quant.packed import PackedEmbedding, PackedLinear, can_pack, pack
from pellucid.quant.tensor import WeightTensor

__all__ = ["can_pack", "make_embedding", "make_linear"]


class Stacked(Matrix):
    """Several matrices over one input, outputs one behind the other."""

    def __init__(self, pieces: Sequence[Matrix]) -> None:
        self.pieces = pieces

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([piece(x) for piece in self.pieces], dim=1)

    @property
    def nbytes(self) -> int:
        return sum(piece.nbytes for piece in self.pieces)


Embedding = DenseEmbedding | PackedEmbedding

_embeddings: WeakValueDictionary[tuple[object, ...], Embedding] = WeakValueDictionary()
"""Those in use, by the weight they were made from: a tied head must not take its memory twice."""


def make_linear(
    parts: Sequence[WeightTensor],
    bias: torch.Tensor | None,
    *,
    dtype: torch.dtype,
    device: torch.device,
    method: str,
) -> Matrix:
    """The linear of `parts`, [rows, in] each, stacked along the output; bias [sum of rows]."""
    check_parts(parts, bias, device, method)
    if len(parts) == 1 and (tied := _embeddings.get(_key(parts[0], dtype, device, method))):
        return _head_of(tied, bias, dtype, device)
    if method == "dense":
        return DenseLinear.of(parts, bias, dtype, device)
    pieces: list[Matrix] = []
    start = 0
    for kind, group in groupby(parts, key=lambda part: part.kind):
        same = list(group)
        end = start + sum(part.shape[0] for part in same)
        piece_bias = None if bias is None else bias[start:end]
        if can_pack(kind):
            pieces.append(PackedLinear(pack(same), piece_bias))
        else:
            pieces.append(DenseLinear.of(same, piece_bias, dtype, device))
        start = end
    return pieces[0] if len(pieces) == 1 else Stacked(pieces)


def make_embedding(
    weight: WeightTensor, *, dtype: torch.dtype, device: torch.device, method: str
) -> Callable[[torch.Tensor], torch.Tensor]:
    """ids int64 [tokens] → rows [tokens, hidden] in `dtype`.

    A linear made of the same weight afterwards (a tied head) shares its memory.
    """
    check_parts([weight], None, device, method)
    embedding: Embedding
    if method == "packed" and can_pack(weight.kind):
        embedding = PackedEmbedding(pack([weight]), dtype, weight.data)
    else:
        embedding = DenseEmbedding(expand(weight, dtype, device), weight.data)
    _embeddings[_key(weight, dtype, device, method)] = embedding
    return embedding


def _head_of(
    embedding: Embedding, bias: torch.Tensor | None, dtype: torch.dtype, device: torch.device
) -> Matrix:
    """The linear of an embedding's own weight."""
    if isinstance(embedding, PackedEmbedding):
        return PackedLinear(embedding.matrix, bias)
    return DenseLinear(embedding.weight, None if bias is None else bias.to(device, dtype))


def _key(
    weight: WeightTensor, dtype: torch.dtype, device: torch.device, method: str
) -> tuple[object, ...]:
    return (weight.data.data_ptr(), weight.kind, weight.shape, str(dtype), str(device), method)


def check_parts(
    parts: Sequence[WeightTensor], bias: torch.Tensor | None, device: torch.device, method: str
) -> None:
    """Raise if `method` does not work on `device`, or if the shapes do not fit together."""
    if method not in ("dense", "packed"):
        raise ValueError(f"unknown linear method {method!r}")
    if method == "packed":
        if device.type != "cpu":
            raise InputError(
                f"weights packed works on the CPU only, not on {device.type}: use weights dense",
                param="weights",
            )
        try:
            cpu_kernels()
        except BuildError as error:
            raise InputError(
                f"weights packed: {error}; or use weights dense", param="weights"
            ) from error
    shapes = [part.shape for part in parts]
    if not parts or any(len(shape) != 2 or shape[1] != shapes[0][1] for shape in shapes):
        raise ValueError(f"these matrices do not share an input: {shapes}")
    rows = sum(shape[0] for shape in shapes)
    if bias is not None and bias.shape != (rows,):
        raise ValueError(f"bias {tuple(bias.shape)} does not fit {rows} outputs")
