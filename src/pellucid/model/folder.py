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
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from pellucid.errors import ModelError, one_line
from pellucid.model.entries import Entry
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


LAYER_NAMES = {
    "input_layernorm.weight": "attn_norm",
    "self_attn.q_proj.weight": "q",
    "self_attn.k_proj.weight": "k",
    "self_attn.v_proj.weight": "v",
    "self_attn.o_proj.weight": "o",
    "self_attn.q_proj.bias": "q_bias",
    "self_attn.k_proj.bias": "k_bias",
    "self_attn.v_proj.bias": "v_bias",
    "self_attn.o_proj.bias": "o_bias",
    "self_attn.q_norm.weight": "q_norm",
    "self_attn.k_norm.weight": "k_norm",
    "mlp.gate_proj.weight": "gate",
    "mlp.up_proj.weight": "up",
    "mlp.down_proj.weight": "down",
    "mlp.gate_proj.bias": "gate_bias",
    "mlp.up_proj.bias": "up_bias",
    "mlp.down_proj.bias": "down_bias",
    "post_attention_layernorm.weight": "mlp_norm",
}
GEMMA_NAMES = LAYER_NAMES | {
    "post_attention_layernorm.weight": "attn_post_norm",
    "pre_feedforward_layernorm.weight": "mlp_norm",
    "post_feedforward_layernorm.weight": "mlp_post_norm",
}
TOP_NAMES = {
    "model.embed_tokens.weight": "embed",
    "model.norm.weight": "norm",
    "lm_head.weight": "lm_head",
}
HARMLESS = re.compile(
    r".*\.rotary_emb\.inv_freq"  # follows from the spec
    r"|(model\.)?(vision_tower|multi_modal_projector)\..*"  # Gemma's eyes; we read its text part
)


def our_name(theirs: str, family: str) -> str | None:
    """Our name of a tensor, "" for one that may be passed over, None for one we do not know."""
    if HARMLESS.fullmatch(theirs):
        return ""
    plain = re.sub(r"^(language_model\.(?=model\.|lm_head\.)|model\.language_model\.)", "", theirs)
    if theirs.startswith("model.language_model."):
        plain = "model." + plain
    layer = re.fullmatch(r"model\.layers\.(\d+)\.(.+)", plain)
    if layer is None:
        return TOP_NAMES.get(plain)
    ours = (GEMMA_NAMES if family == "gemma3" else LAYER_NAMES).get(layer[2])
    return ours and f"layers.{layer[1]}.{ours}"


class SafetensorsFiles:
    """The headers of the safetensors files of a folder: which tensors there are, and where.

    Raises `ModelError` if there are no files, or one is missing, cut short or damaged.
    """

    def __init__(self, folder: Path, spec: ModelSpec) -> None:
        self.entries: dict[str, Entry] = {}
        self.strangers: list[str] = []
        self.weight_bytes = 0
        self.file_of: dict[str, Path] = {}
        """The file that holds a weight, by our name of the weight."""
        for path in safetensors_files(folder):
            self._read_header(path, spec)
        if spec.tied_head and "lm_head" in self.entries:
            self._drop_copy(folder)

    def _drop_copy(self, folder: Path) -> None:
        """Forget a tied head's copy of the embedding. A head that is no copy is refused: engines
        do not agree on which of the two such a model is run with, and the answers differ."""
        if not self._same("lm_head", "embed"):
            raise ModelError(
                f"{folder}: config.json says tie_word_embeddings, but 'lm_head.weight' is not the "
                "embedding; set tie_word_embeddings to false there, or remove the tensor"
            )
        entry = self.entries.pop("lm_head")
        del self.file_of["lm_head"]
        self.weight_bytes -= PLAIN_BYTES.get(entry.kind, 0) * math.prod(entry.shape)

    def _read_header(self, path: Path, spec: ModelSpec) -> None:
        file = open_safetensors(path, "numpy")
        for theirs in file.keys():  # noqa: SIM118 (it is no mapping)
            ours = our_name(theirs, spec.family)
            if ours is None:
                self.strangers.append(theirs)
                continue
            if not ours:
                continue
            if ours in self.entries:
                raise ModelError(f"{path}: tensor {theirs!r} is in two files; remove one of them")
            view = file.get_slice(theirs)
            kind, shape = str(view.get_dtype()), tuple(view.get_shape())
            self.entries[ours] = Entry(kind, shape, theirs)
            self.file_of[ours] = path
            self.weight_bytes += PLAIN_BYTES.get(kind, 0) * math.prod(shape)

    def _same(self, one: str, other: str) -> bool:
        """Whether two weights are the same numbers, bit for bit."""
        if other not in self.entries:
            return False
        first, second = self.entries[one], self.entries[other]
        if (first.kind, first.shape) != (second.kind, second.shape):
            return False
        left = tensor_bytes(self.file_of[one], first.file_name)
        right = tensor_bytes(self.file_of[other], second.file_name)
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
