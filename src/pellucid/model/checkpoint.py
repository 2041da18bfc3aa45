"""A model on disk, opened: what it is, its tokenizer, its weights.

`open_checkpoint` finds the files (`hub.py`), reads headers and configuration, and checks that the
weights are those of the configuration. Weights and tokenizer themselves are read when asked for:
the process that only tokenizes never touches a weight, and the one that only computes builds no
tokenizer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import torch

from pellucid.config import EngineConfig
from pellucid.errors import ModelError
from pellucid.model.folder import PICKLES, SafetensorsWeights, pickle_error, spec_of_folder
from pellucid.model.gguf import GgufFile
from pellucid.model.hub import ALIASES, resolve
from pellucid.model.spec import ModelSpec
from pellucid.model.weights import DummyWeights, WeightSource, check_weights, dense_bytes
from pellucid.text.tokenizer import Tokenizer

__all__ = ["Checkpoint", "WeightSource", "open_checkpoint"]

DUMMY_DTYPE = torch.bfloat16
"""What checkpoints of the kind that random weights stand in for are stored in."""


OpenWeights = Callable[[torch.dtype, torch.device | str], WeightSource]


@dataclass(frozen=True)
class Checkpoint:
    """One model, ready to be loaded."""

    name: str
    """What the server reports: the alias, or the last part of the path."""
    path: Path
    spec: ModelSpec
    weight_bytes: int
    """Bytes of all weights as they are stored."""
    open_weights: OpenWeights
    build_tokenizer: Callable[[], Tokenizer | None]

    def weights(
        self, dtype: torch.dtype = DUMMY_DTYPE, device: torch.device | str = "cpu"
    ) -> WeightSource:
        """The weights. Random ones are made in `dtype` on `device`; a file's lie as they lie."""
        return self.open_weights(dtype, device)

    @cached_property
    def tokenizer(self) -> Tokenizer | None:
        """Built on first use; None if the folder has no tokenizer.json."""
        return self.build_tokenizer()


def open_checkpoint(config: EngineConfig) -> Checkpoint:
    """Find, read and check the model that `config` names. Raises `ModelError`."""
    dummy = config.load_format == "dummy"
    path = resolve(config.model, config.revision, weights=not dummy)
    name = name_of(config.model)
    if path.is_dir():
        return open_folder(path, name, dummy)
    if path.suffix in PICKLES:
        raise pickle_error(path)
    if path.suffix in (".safetensors", ".json"):
        raise ModelError(f"{path}: give the folder that holds it and config.json, not the file")
    return open_gguf(path, name, dummy)


def open_gguf(path: Path, name: str, dummy: bool) -> Checkpoint:
    file = GgufFile(path)
    spec = file.spec
    check_weights(spec, file.entries, file.strangers, path)
    return Checkpoint(
        name=name,
        path=path,
        spec=spec,
        weight_bytes=dense_bytes(spec, DUMMY_DTYPE) if dummy else file.weight_bytes,
        open_weights=partial(DummyWeights, spec) if dummy else lambda dtype, device: file,
        build_tokenizer=lambda: Tokenizer.from_gguf(file.metadata),
    )


def open_folder(path: Path, name: str, dummy: bool) -> Checkpoint:
    spec = spec_of_folder(path)
    if dummy:
        weight_bytes = dense_bytes(spec, DUMMY_DTYPE)
        open_weights: OpenWeights = partial(DummyWeights, spec)
    else:
        files = SafetensorsWeights(path, spec)
        check_weights(spec, files.entries, files.strangers, path)
        weight_bytes, open_weights = files.weight_bytes, lambda dtype, device: files
    return Checkpoint(
        name=name,
        path=path,
        spec=spec,
        weight_bytes=weight_bytes,
        open_weights=open_weights,
        build_tokenizer=partial(folder_tokenizer, path),
    )


def folder_tokenizer(folder: Path) -> Tokenizer | None:
    """The folder's tokenizer; without a tokenizer.json, prompts and answers are token ids."""
    return Tokenizer.from_folder(folder) if (folder / "tokenizer.json").exists() else None


def name_of(model: str) -> str:
    """What clients call `model`: an alias as it is, anything else without its folders."""
    path = Path(model).expanduser()
    return path.resolve().name if model not in ALIASES and path.exists() else path.name
