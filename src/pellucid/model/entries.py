"""What a file says about its weights, compared with what the spec needs. No torch, no weight read.

A weight is one tensor of the file, or, in formats with scales beside the codes, several: what each
of them holds is its role. Today's readers know weights of one tensor, in the role `weight`; any
other set of roles is a kind of its own that is refused by name.

Missing is an error, and so is one too many: a weight that nobody asks for is a model that differs
from the one that we are about to run.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from pellucid.errors import ModelError
from pellucid.model.fields import short
from pellucid.model.spec import ModelSpec, expected_weights
from pellucid.quant.kinds import BLOCK_SHAPES, SUPPORTED


class FileTensor(NamedTuple):
    """One tensor of a file."""

    name: str
    """As the file calls it."""
    dtype: str
    """GGUF's or safetensors' name of the element type."""
    shape: tuple[int, ...]
    """Outermost dimension first, as torch has it."""
    path: Path
    """The file; tensors of one weight may lie in several."""


class Entry(NamedTuple):
    """One weight of a model, as files hold it."""

    kind: str
    """How its numbers are stored; one of `quant.kinds.SUPPORTED`, or it is refused."""
    shape: tuple[int, ...]
    """Of the weight, outermost dimension first."""
    tensors: dict[str, FileTensor]
    """By role."""

    @classmethod
    def of(cls, tensors: dict[str, FileTensor]) -> Entry:
        """The weight that is stored as these tensors."""
        first = next(iter(tensors.values()))
        if tensors.keys() == {"weight"}:
            return cls(first.dtype, first.shape, tensors)
        kind = " + ".join(f"{tensor.dtype} {role}" for role, tensor in sorted(tensors.items()))
        return cls(short(kind), first.shape, tensors)

    @property
    def file_name(self) -> str:
        """What the file calls it, or the first of its tensors."""
        return next(iter(self.tensors.values())).name


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
            f"{path}: tensor {entry.file_name!r} is stored as {entry.kind}, which is not "
            f"supported; convert the model to one of {', '.join(SUPPORTED)}"
        )
    if entry.shape != shape:
        raise ModelError(
            f"{path}: tensor {entry.file_name!r} has shape {list(entry.shape)}, but the "
            f"configuration asks for {list(shape)}; weights and configuration are of two models"
        )
    size, _ = BLOCK_SHAPES.get(entry.kind, (1, 0))
    if size > 1 and (len(shape) != 2 or shape[1] % size):
        raise ModelError(
            f"{path}: tensor {entry.file_name!r} of shape {list(shape)} cannot be made of "
            f"{entry.kind} blocks of {size}; the file is damaged: fetch it again"
        )
