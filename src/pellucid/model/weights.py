"""Named weights, wherever they come from.

A `WeightSource` hands out `WeightTensor`s by our own names (see `spec.expected_weights`). Three
kinds of source exist: a GGUF file (`gguf.py`), safetensors files (`folder.py`), and `DummyWeights`
here, random numbers for measuring speed on models whose weights are not at hand.

Files are memory-mapped: opening one reads its header only, a tensor's bytes are read from disk when
something looks at them, and several processes share one copy. `check_weights` compares what a file
holds with what the spec needs, before anything is computed. Missing is an error, and so is one too
many: a weight that nobody asks for is a model that differs from the one we are about to run.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple, Protocol

import torch

from pellucid.errors import ModelError
from pellucid.model.spec import ModelSpec, expected_weights
from pellucid.quant.blocks import BLOCKS
from pellucid.quant.tensor import WeightTensor

DENSE: dict[str, torch.dtype] = {
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
}
SUPPORTED = (*DENSE, *BLOCKS)


class WeightSource(Protocol):
    """Weights by our own names."""

    def __getitem__(self, name: str) -> WeightTensor:
        """The weight called `name`; KeyError if there is none."""

    def __contains__(self, name: object) -> bool: ...

    def names(self) -> Collection[str]: ...


class Entry(NamedTuple):
    """What a file says about one of its tensors."""

    kind: str
    """GGUF's or safetensors' name of the element type."""
    shape: tuple[int, ...]
    """Outermost dimension first, as torch has it."""
    file_name: str
    """The tensor's name in the file."""


def check_weights(
    spec: ModelSpec, entries: Mapping[str, Entry], strangers: Iterable[str], path: Path
) -> None:
    """Raise `ModelError` unless `entries`, by our names, are exactly the weights of `spec`.

    `strangers` are tensors of the file that have no name of ours. `path` is named in the message.
    """
    expected = expected_weights(spec)
    for name, shape in expected.items():
        if name not in entries:
            raise ModelError(
                f"{path}: tensor {name!r} of this {spec.family} model is missing; the file is "
                "incomplete or its configuration is another model's: fetch both again"
            )
        check_entry(entries[name], shape, path)
    extra = [entry.file_name for name, entry in entries.items() if name not in expected]
    extra += strangers
    if extra:
        more = f" and {len(extra) - 1} more" if len(extra) > 1 else ""
        raise ModelError(
            f"{path}: tensor {extra[0]!r}{more} has no place in a {spec.family} model of this "
            "configuration; leaving it out would change the answers, so use the plain model"
        )


def check_entry(entry: Entry, shape: tuple[int, ...], path: Path) -> None:
    """Raise `ModelError` unless the tensor has a type that we read and the shape we expect."""
    if entry.kind not in SUPPORTED:
        raise ModelError(
            f"{path}: tensor {entry.file_name!r} has type {entry.kind}, which is not supported; "
            f"convert the model to one of {', '.join(SUPPORTED)}"
        )
    if entry.shape != shape:
        raise ModelError(
            f"{path}: tensor {entry.file_name!r} has shape {list(entry.shape)}, but the "
            f"configuration asks for {list(shape)}; weights and configuration are of two models"
        )
    block = BLOCKS.get(entry.kind)
    if block is not None and (len(shape) != 2 or shape[1] % block.size):
        raise ModelError(
            f"{path}: tensor {entry.file_name!r} of shape {list(shape)} cannot be made of "
            f"{entry.kind} blocks of {block.size}; the file is damaged: fetch it again"
        )


class DummyWeights:
    """Random weights of the right shapes, made when asked for, in their final dtype and place.

    Matrices and biases are normal with deviation 0.02, like a freshly initialised model; norms act
    as 1. A weight depends on its name and the kind of device only, so two runs are comparable.
    """

    def __init__(self, spec: ModelSpec, dtype: torch.dtype, device: torch.device | str) -> None:
        self._shapes = expected_weights(spec)
        self._norm = 1.0 - spec.norm_offset
        self._kind = next(kind for kind, known in DENSE.items() if known == dtype)
        self._dtype = dtype
        self._device = torch.device(device)

    def __getitem__(self, name: str) -> WeightTensor:
        shape = self._shapes[name]
        data = torch.empty(shape, dtype=self._dtype, device=self._device)
        if name.endswith("norm"):
            data.fill_(self._norm)
        else:
            seed = int.from_bytes(hashlib.blake2b(name.encode(), digest_size=7).digest())
            data.normal_(0.0, 0.02, generator=torch.Generator(self._device).manual_seed(seed))
        return WeightTensor(name, self._kind, shape, data)

    def __contains__(self, name: object) -> bool:
        return name in self._shapes

    def names(self) -> Collection[str]:
        return self._shapes.keys()


def dense_bytes(spec: ModelSpec, dtype: torch.dtype) -> int:
    """Bytes of all weights of `spec` in `dtype`."""
    return sum(math.prod(shape) for shape in expected_weights(spec).values()) * dtype.itemsize
