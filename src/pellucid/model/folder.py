"""A model in a folder, as the transformers library writes it.

    config.json                    architecture and sizes (see spec_hf.py)
    generation_config.json         end-of-sequence ids, where they differ from config.json's
    model.safetensors              weights in one file, or …
    model.safetensors.index.json   … which of several files holds which
    tokenizer.json, …              see pellucid.text

A safetensors file is a JSON header (name → element type, shape, offsets) and then the numbers. Only
headers are read here; the weights themselves are `stored.SafetensorsWeights`. Pickle checkpoints
(*.bin, *.pt) run code when they are opened, so they are refused. Python files in the folder are
passed over.
"""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from safetensors import SafetensorError, safe_open

from pellucid.errors import ModelError, one_line
from pellucid.model.entries import Entry, FileTensor
from pellucid.model.fields import short
from pellucid.model.spec import ModelSpec
from pellucid.model.spec_hf import spec_from_config
from pellucid.quant.kinds import PLAIN_BYTES
from pellucid.text.files import read_object, read_optional

COMPARED = 1 << 24
"""Bytes that are compared at a time."""
MAX_NAME = 200
"""Characters of a file's name; file systems have 255 bytes."""
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file that a model folder needs; `ModelError` if there is none."""
    if not path.exists():
        raise ModelError(
            f"{path}: no such file; a model folder needs config.json, *.safetensors and "
            "tokenizer.json"
        )
    return read_object(path)


def spec_of_folder(folder: Path) -> ModelSpec:
    """The spec that config.json and generation_config.json of `folder` describe."""
    path = folder / "config.json"
    generation = read_optional(folder / "generation_config.json")
    return spec_from_config(read_json(path), generation, path)


LAYER_MODULES = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "q",
    "self_attn.k_proj": "k",
    "self_attn.v_proj": "v",
    "self_attn.o_proj": "o",
    "self_attn.q_norm": "q_norm",
    "self_attn.k_norm": "k_norm",
    "mlp.gate_proj": "gate",
    "mlp.up_proj": "up",
    "mlp.down_proj": "down",
    "post_attention_layernorm": "mlp_norm",
}
GEMMA_MODULES = LAYER_MODULES | {
    "post_attention_layernorm": "attn_post_norm",
    "pre_feedforward_layernorm": "mlp_norm",
    "post_feedforward_layernorm": "mlp_post_norm",
}
TOP_MODULES = {
    "model.embed_tokens": "embed",
    "model.norm": "norm",
    "lm_head": "lm_head",
}
HARMLESS = re.compile(
    r".*\.rotary_emb\.inv_freq"  # follows from the spec
    r"|(model\.)?(vision_tower|multi_modal_projector)\..*"  # Gemma's eyes; we read its text part
)


class Place(NamedTuple):
    """Where a tensor of a file belongs."""

    weight: str
    """Our name of the weight."""
    role: str
    """What the tensor is to it: `weight`, or in a quantized file `weight_scale`, `qzeros`, ..."""


def place_of(theirs: str, family: str) -> Place | None:
    """Where the tensor `theirs` belongs; None if nowhere that we know.

    model.layers.3.self_attn.q_proj.weight is the `weight` of layers.3.q, and its bias, a weight of
    its own, that of layers.3.q_bias.
    """
    plain = re.sub(r"^(language_model\.(?=model\.|lm_head\.)|model\.language_model\.)", "", theirs)
    if theirs.startswith("model.language_model."):
        plain = "model." + plain
    module, _, role = plain.rpartition(".")
    layer = re.fullmatch(r"model\.layers\.(\d+)\.(.+)", module)
    if layer is None:
        ours = TOP_MODULES.get(module)
    else:
        modules = GEMMA_MODULES if family == "gemma3" else LAYER_MODULES
        ours = modules.get(layer[2]) and f"layers.{layer[1]}.{modules[layer[2]]}"
    if ours is None:
        return None
    return Place(f"{ours}_bias", "weight") if role == "bias" else Place(ours, role)


class SafetensorsFiles:
    """The headers of the safetensors files of a folder: which tensors there are, and where.

    Raises `ModelError` if there are no files, or one is missing, cut short or damaged.
    """

    def __init__(self, folder: Path, spec: ModelSpec) -> None:
        self.paths = safetensors_files(folder)
        self.strangers: list[str] = []
        self.weight_bytes = 0
        tensors: dict[str, dict[str, FileTensor]] = {}
        for path in self.paths:
            self._read_header(path, spec, tensors)
        self.entries = {name: Entry.of(parts) for name, parts in tensors.items()}
        if spec.tied_head and "lm_head" in self.entries:
            self._drop_copy(folder)

    def _drop_copy(self, folder: Path) -> None:
        """Forget a tied head's copy of the embedding. A head that is no copy is refused: engines
        do not agree on which of the two such a model is run with, and the answers differ."""
        head, embedding = self.entries.pop("lm_head"), self.entries.get("embed")
        if embedding is None or not same_weight(head, embedding):
            raise ModelError(
                f"{folder}: config.json says tie_word_embeddings, but 'lm_head.weight' is not the "
                "embedding; set tie_word_embeddings to false there, or remove the tensor"
            )
        self.weight_bytes -= sum(size_of(tensor) for tensor in head.tensors.values())

    def _read_header(
        self, path: Path, spec: ModelSpec, tensors: dict[str, dict[str, FileTensor]]
    ) -> None:
        """Add the tensors of one file, by our name of the weight and their role in it."""
        file = open_safetensors(path, "numpy")
        for theirs in file.keys():  # noqa: SIM118 (it is no mapping)
            if HARMLESS.fullmatch(theirs):
                continue
            place = place_of(theirs, spec.family)
            if place is None:
                self.strangers.append(theirs)
                continue
            parts = tensors.setdefault(place.weight, {})
            if place.role in parts:
                raise ModelError(f"{path}: tensor {theirs!r} is in two files; remove one of them")
            view = file.get_slice(theirs)
            tensor = FileTensor(theirs, str(view.get_dtype()), tuple(view.get_shape()), path)
            parts[place.role] = tensor
            self.weight_bytes += size_of(tensor)


def size_of(tensor: FileTensor) -> int:
    """Bytes of a tensor; 0 of one that is refused for its element type."""
    return PLAIN_BYTES.get(tensor.dtype, 0) * math.prod(tensor.shape)


def same_weight(one: Entry, other: Entry) -> bool:
    """Whether two weights are stored as the same numbers, bit for bit."""
    if one.tensors.keys() != other.tensors.keys():
        return False
    return all(same_tensor(tensor, other.tensors[role]) for role, tensor in one.tensors.items())


def same_tensor(one: FileTensor, other: FileTensor) -> bool:
    if (one.dtype, one.shape) != (other.dtype, other.shape):
        return False
    left, right = tensor_bytes(one.path, one.name), tensor_bytes(other.path, other.name)
    steps = range(0, len(left), COMPARED)
    return all(np.array_equal(left[i : i + COMPARED], right[i : i + COMPARED]) for i in steps)


def tensor_bytes(path: Path, name: str) -> Any:
    """The bytes of one tensor of a file that has been opened before: uint8, mapped."""
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        begin, end = json.loads(file.read(size))[name]["data_offsets"]
    return np.memmap(path, np.uint8, "r", 8 + size + begin, (end - begin,))


def open_safetensors(path: Path, framework: str) -> Any:
    """The file, memory-mapped, with tensors of `framework`: numpy or pt."""
    try:
        return safe_open(path, framework=framework)
    except RuntimeError as error:  # torch's, when there is no room to map the file
        raise ModelError(f"{path}: cannot be mapped ({one_line(error)})") from error
    except (SafetensorError, OSError) as error:
        raise ModelError(
            f"{path}: cut short or damaged ({one_line(error)}); fetch it again"
        ) from error


def safetensors_files(folder: Path) -> list[Path]:
    """The files that hold the weights of `folder`; `ModelError` if that is not clear.

    One whole file comes first, as in transformers: an index beside it is left over from the shards
    that it was joined from.
    """
    found = sorted(folder.glob("*.safetensors"))
    if folder / "model.safetensors" in found:
        return [folder / "model.safetensors"]
    index = folder / "model.safetensors.index.json"
    if index.exists():
        return shards(index)
    if len(found) == 1:
        return found
    if found:
        raise ModelError(
            f"{folder}: {len(found)} safetensors files and no model.safetensors.index.json to tell "
            "which belong together; fetch it too"
        )
    pickled = sorted(path for path in folder.iterdir() if path.suffix in PICKLES)
    if pickled:
        raise pickle_error(pickled[0])
    raise ModelError(
        f"{folder}: no *.safetensors; fetch the weights, or take --load-format dummy for random "
        "ones"
    )


def shards(index: Path) -> list[Path]:
    """The files that an index names."""
    names = read_json(index).get("weight_map")
    if not isinstance(names, dict) or not all(isinstance(name, str) for name in names.values()):
        raise ModelError(f"{index}: has no weight_map of tensor to file; fetch the file again")
    files = []
    for name in sorted(set(names.values())):
        path = index.parent / name
        if Path(name).name != name or path.suffix != ".safetensors" or len(name) > MAX_NAME:
            raise ModelError(
                f"{index}: names {short(name)}, which is no safetensors file beside it"
            )
        if not path.exists():
            raise ModelError(f"{path}: no such file, though {index.name} names it; fetch it")
        files.append(path)
    return files


def pickle_error(path: Path) -> ModelError:
    return ModelError(
        f"{path}: pickle checkpoints are not read, because opening one runs its code; convert it "
        "to safetensors or take a model that has them"
    )
