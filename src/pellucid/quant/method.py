"""What a method of multiplying by stored weights offers, and what an embedding is.

The switch `weights` names methods in order of preference (`linear.py`); each is asked about each
weight of the model. A new format brings a `StoredWeight` (`weight.py`) and a method that knows it;
weights that no method of its own knows are expanded by `dense.py`, which takes everything.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, Sequence
from typing import Protocol

import torch

from pellucid.kernels.matrix import Matrix
from pellucid.quant.weight import StoredWeight


class Embedding(ABC):
    """Rows of W [vocab, hidden] by token id."""

    @abstractmethod
    def __call__(self, ids: torch.Tensor) -> torch.Tensor:
        """ids int64 [tokens] → [tokens, hidden]."""

    @abstractmethod
    def head(self, bias: torch.Tensor | None) -> Matrix:
        """The matrix of the same weight, in the same memory."""


class WeightMethod(Protocol):
    """A way to multiply by weights."""

    def why_not_on(self, device: torch.device) -> str:
        """Why it does not work on this device, whatever the weight; empty if it does."""

    def why_not(self, weight: StoredWeight) -> str:
        """Why it cannot multiply by this weight; empty if it can."""

    def joins(self, weight: StoredWeight) -> Hashable:
        """Weights that share an input become one matrix where this is equal."""

    def linear(
        self,
        parts: Sequence[StoredWeight],
        bias: torch.Tensor | None,
        dtype: torch.dtype,
        device: torch.device,
    ) -> Matrix:
        """One matrix of parts [rows, in] that it joins, rows one behind the other; bias [rows]."""

    def embedding(
        self, weight: StoredWeight, dtype: torch.dtype, device: torch.device
    ) -> Embedding:
        """The embedding of `weight`, whose rows come in `dtype`."""
