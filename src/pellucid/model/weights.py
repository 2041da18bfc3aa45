"""Named weights, wherever they come from.

A `WeightSource` hands out `StoredWeight`s by our own names (see `spec.expected_weights`). Three
kinds of source exist: a GGUF file and safetensors files (`stored.py`), and `DummyWeights` here,
random numbers for measuring speed on models whose weights are not at hand.

Files are memory-mapped: opening one reads its header only, a tensor's bytes are read from disk when
something looks at them, and several processes share one copy. What a file holds is compared with
what the spec needs before anything is computed (`entries.py`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from typing import Protocol

import torch

from pellucid.model.spec import ModelSpec, expected_weights, num_weights
from pellucid.quant.weight import PlainWeight, StoredWeight


class WeightSource(Protocol):
    """Weights by our own names."""

    def __getitem__(self, name: str) -> StoredWeight:
        """The weight called `name`; KeyError if there is none."""

    def __contains__(self, name: object) -> bool: ...

    def names(self) -> Collection[str]: ...


class DummyWeights:
    """Random weights of the right shapes, made when asked for, in their final dtype and place.

    Matrices and biases are normal with deviation 0.02, like a freshly initialised model; norms act
    as 1. A weight depends on its name and the kind of device only, so two runs are comparable.
    """

    def __init__(self, spec: ModelSpec, dtype: torch.dtype, device: torch.device | str) -> None:
        self._shapes = expected_weights(spec)
        self._norm = 1.0 - spec.norm_offset
        self._dtype = dtype
        self._device = torch.device(device)

    def __getitem__(self, name: str) -> PlainWeight:
        shape = self._shapes[name]
        data = torch.empty(shape, dtype=self._dtype, device=self._device)
        if name.endswith("norm"):
            data.fill_(self._norm)
        else:
            seed = int.from_bytes(hashlib.blake2b(name.encode(), digest_size=7).digest())
            data.normal_(0.0, 0.02, generator=torch.Generator(self._device).manual_seed(seed))
        return PlainWeight(name, data)

    def __contains__(self, name: object) -> bool:
        return name in self._shapes

    def names(self) -> Collection[str]:
        return self._shapes.keys()


def dense_bytes(spec: ModelSpec, dtype: torch.dtype) -> int:
    """Bytes of all weights of `spec` in `dtype`."""
    return num_weights(spec) * dtype.itemsize
