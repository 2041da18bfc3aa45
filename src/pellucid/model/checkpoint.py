"""A model on disk, opened: what it is, its tokenizer, how it likes to be sampled, its weights.

`open_checkpoint` finds the files (`hub.py`), reads headers and configuration, and checks that the
weights are those of the configuration. Weights are read when asked for: the process that only
tokenizes never touches one, and does not import torch, which takes seconds and hundreds of
megabytes. A folder's tokenizer is built at once, because it knows tokens that end an answer which
the configuration does not; a GGUF file says them in its metadata.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from pellucid.config import EngineConfig
from pellucid.errors import ModelError
from pellucid.model.entries import check_weights
from pellucid.model.folder import PICKLES, SafetensorsFiles, pickle_error, spec_of_folder
from pellucid.model.gguf import GgufFile
from pellucid.model.hub import ALIASES, resolve
from pellucid.model.sampling_defaults import SamplingDefaults, from_generation_config, from_gguf
from pellucid.model.spec import ModelSpec, num_weights
from pellucid.text.files import read_optional
from pellucid.text.tokenizer import Tokenizer

if TYPE_CHECKING:
    import torch

    from pellucid.model.weights import WeightSource

__all__ = ["Checkpoint", "open_checkpoint"]

DUMMY_BYTES = 2
"""Bytes of an element in checkpoints of the kind that random weights stand in for: bfloat16."""


@dataclass(frozen=True)
class Checkpoint:
    """One model, ready to be loaded."""

    name: str
    """What the server reports: the alias, or the last part of the path."""
    path: Path
    spec: ModelSpec
    weight_bytes: int
    """Bytes of all weights as they are stored."""
    stored: GgufFile | SafetensorsFiles | None
    """The file or files that hold the weights; None: random ones."""
    build_tokenizer: Callable[[], Tokenizer | None]
    sampling_defaults: SamplingDefaults
    """Fields of `SamplingParams` that the model's authors recommend, for requests without them."""

    @property
    def layer_kinds(self) -> frozenset[str]:
        """Element types that the layers' weights are stored in, as the headers name them ("Q4_1");
        embedding and head may have others. Empty for random weights."""
        entries = self.stored.entries if self.stored else {}
        return frozenset(e.kind for name, e in entries.items() if name.startswith("layers."))

    def weights(
        self, dtype: torch.dtype | None = None, device: torch.device | str = "cpu"
    ) -> WeightSource:
        """The weights. Random ones are made in `dtype` (None: bfloat16) on `device`; a file's lie
        as they lie."""
        import torch

        from pellucid.model.stored import GgufWeights, SafetensorsWeights
        from pellucid.model.weights import DummyWeights

        match self.stored:
            case GgufFile() as file:
                return GgufWeights(file)
            case SafetensorsFiles() as files:
                return SafetensorsWeights(files)
        return DummyWeights(self.spec, dtype or torch.bfloat16, device)

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
    alias = ALIASES.get(config.model)
    return open_gguf(path, name, dummy, alias.sampling if alias else {})


def open_gguf(path: Path, name: str, dummy: bool, card: Mapping[str, float]) -> Checkpoint:
    """`card`: the sampling parameters of the model's card, for a file that names none itself."""
    file = GgufFile(path)
    spec = file.spec
    check_weights(spec, file.entries, file.strangers, path)
    return Checkpoint(
        name=name,
        path=path,
        spec=spec,
        weight_bytes=num_weights(spec) * DUMMY_BYTES if dummy else file.weight_bytes,
        stored=None if dummy else file,
        build_tokenizer=lambda: Tokenizer.from_gguf(file.metadata),
        sampling_defaults=from_gguf(file.metadata, path) or dict(card),
    )


def open_folder(path: Path, name: str, dummy: bool) -> Checkpoint:
    spec = spec_of_folder(path)
    files = None if dummy else SafetensorsFiles(path, spec)
    if files:
        check_weights(spec, files.entries, files.strangers, path)
    generation = path / "generation_config.json"
    tokenizer = folder_tokenizer(path)
    return Checkpoint(
        name=name,
        path=path,
        spec=replace(spec, eos_token_ids=end_tokens(spec, tokenizer)),
        weight_bytes=files.weight_bytes if files else num_weights(spec) * DUMMY_BYTES,
        stored=files,
        build_tokenizer=lambda: tokenizer,
        sampling_defaults=from_generation_config(read_optional(generation), generation),
    )


def end_tokens(spec: ModelSpec, tokenizer: Tokenizer | None) -> tuple[int, ...]:
    """Ids that end an answer: the configuration's and the tokenizer's. A model that was tuned for
    chat often has a new end in its tokenizer and the base model's in its configuration."""
    known = tokenizer.eos_token_ids if tokenizer else ()
    ids = dict.fromkeys([*spec.eos_token_ids, *known])
    return tuple(token for token in ids if token < spec.vocab_size)


def folder_tokenizer(folder: Path) -> Tokenizer | None:
    """The folder's tokenizer; without a tokenizer.json, prompts and answers are token ids."""
    return Tokenizer.from_folder(folder) if (folder / "tokenizer.json").exists() else None


def name_of(model: str) -> str:
    """What clients call `model`: an alias as it is, anything else without its folders."""
    path = Path(model).expanduser()
    return path.resolve().name if model not in ALIASES and path.exists() else path.name
