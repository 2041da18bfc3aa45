"""A weight as its file holds it, and the way from there to numbers.

A checkpoint holds plain numbers (F32, F16, BF16) or blocks: runs of 32 or 256 weights along the
input dimension that share a scale. Other formats have several tensors for one weight: codes,
scales, zero points, an order of columns. A `StoredWeight` keeps whatever there is untouched, so
that a method of multiplying (`linear.py`) can decide for itself whether to expand it or to multiply
by it as it lies. Nobody but the class itself knows how many tensors it has.

Rows can be selected without decoding, because no block and no scale belongs to two rows. (GGUF's
converter reorders the rows of Q and K, and loading undoes it, see model/stored.py.)
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable

import torch

from pellucid.quant.blocks import dequantize

PLAIN_KINDS = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"}


class StoredWeight(ABC):
    """One weight of a model, a matrix [out, in] or a vector, as it is stored.

    `name` is ours, for messages; `kind` says how the numbers are stored ("F32", "Q4_1", ...; see
    `kinds.py`); `shape` is that of the numbers, however they are stored.
    """

    def __init__(self, name: str, kind: str, shape: tuple[int, ...]) -> None:
        self.name = name
        self.kind = kind
        self.shape = shape

    @property
    @abstractmethod
    def tensors(self) -> tuple[torch.Tensor, ...]:
        """All that is stored for it."""

    @abstractmethod
    def dense(self, dtype: torch.dtype) -> torch.Tensor:
        """Its numbers, `shape`, in `dtype`."""

    @abstractmethod
    def to(self, device: torch.device) -> StoredWeight:
        """The same on `device`."""

    @abstractmethod
    def select_rows(self, index: torch.Tensor) -> StoredWeight:
        """Rows `index` in that order. index: int64 [n]."""

    @property
    def nbytes(self) -> int:
        return sum(tensor.nbytes for tensor in self.tensors)

    @property
    def identity(self) -> Hashable:
        """Equal for two weights that are the same memory, such as an embedding and its tied head.
        Holds while the weight is alive."""
        return (self.kind, self.shape, *(tensor.data_ptr() for tensor in self.tensors))


class PlainWeight(StoredWeight):
    """Numbers of a dtype of `PLAIN_KINDS`."""

    def __init__(self, name: str, data: torch.Tensor) -> None:
        super().__init__(name, PLAIN_KINDS[data.dtype], tuple(data.shape))
        self.data = data

    @property
    def tensors(self) -> tuple[torch.Tensor, ...]:
        return (self.data,)

    def dense(self, dtype: torch.dtype) -> torch.Tensor:
        return self.data.to(dtype)

    def to(self, device: torch.device) -> PlainWeight:
        return PlainWeight(self.name, self.data.to(device))

    def select_rows(self, index: torch.Tensor) -> PlainWeight:
        return PlainWeight(self.name, self.data[index].contiguous())


class BlockWeight(StoredWeight):
    """A matrix in GGUF's blocks; `blocks.py` says how they are laid out."""

    def __init__(self, name: str, kind: str, shape: tuple[int, ...], data: torch.Tensor) -> None:
        """data: uint8 [rows, bytes per row]"""
        super().__init__(name, kind, shape)
        self.data = data

    @property
    def tensors(self) -> tuple[torch.Tensor, ...]:
        return (self.data,)

    def dense(self, dtype: torch.dtype) -> torch.Tensor:
        """Decoded in float32 first."""
        return dequantize(self.kind, self.data).view(self.shape).to(dtype)

    def to(self, device: torch.device) -> BlockWeight:
        return BlockWeight(self.name, self.kind, self.shape, self.data.to(device))

    def select_rows(self, index: torch.Tensor) -> BlockWeight:
        shape = (len(index), *self.shape[1:])
        return BlockWeight(self.name, self.kind, shape, self.data[index].contiguous())
