"""A model in one `.gguf` file: its metadata, and its tensors under our names.

Layout of a GGUF file, little-endian:

    "GGUF" | version | tensor count | key count      24 bytes
    key, type, value                                 once per key: hyperparameters, tokenizer
    name, dimensions, element type, offset           once per tensor
    tensor data                                      each at a multiple of 32 bytes; memory-mapped

The file is read by the `gguf` package, with one method replaced. The package keeps small numpy
arrays for every element of every metadata array, and a vocabulary has 50 to 260 thousand elements:
reading all metadata so took 5 s of CPU time for SmolLM2 and 22 s for Gemma 3 (gguf 0.19, about the
median of three). `Reader` takes a whole array in one go: 0.1 s and 0.35 s in the same run.

The weights themselves are `stored.GgufWeights`.

Source: the GGUF specification in the ggml repository; gguf-py; llama.cpp.
"""

from __future__ import annotations

import re
import struct
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np
from gguf import GGUFReader, GGUFValueType

from pellucid.errors import ModelError, one_line
from pellucid.model.entries import Entry, FileTensor
from pellucid.model.spec import ModelSpec
from pellucid.model.spec_gguf import family_of, spec_from_gguf

HARMLESS = frozenset({"rope_freqs.weight"})
"""Tensors that are no weights: this one is read into the spec."""
UNREADABLE = (ValueError, IndexError, KeyError, OverflowError, MemoryError, struct.error)
"""What the package raises on bytes that make no sense."""


class Reader(GGUFReader):
    """The package's reader, with metadata arrays read whole: one numpy array each."""

    def _get_field_parts(
        self, orig_offs: int, raw_type: int
    ) -> tuple[int, list[Any], list[int], list[GGUFValueType]]:
        if raw_type != GGUFValueType.ARRAY:
            size, parts, index, types = super()._get_field_parts(orig_offs, raw_type)
            return size, parts, index, types
        buffer = memoryview(cast(Any, self.data))
        raw_item, count = struct.unpack_from("<IQ", buffer, orig_offs)
        item = GGUFValueType(raw_item)
        start = orig_offs + 12
        if item == GGUFValueType.STRING:
            values, end = read_strings(buffer, start, count)
        elif item in self.gguf_scalar_to_np:
            kind = np.dtype(self.gguf_scalar_to_np[item])
            values = np.frombuffer(buffer, kind, count, start)
            end = start + values.nbytes
        else:
            raise ValueError(f"array of {item.name} in the metadata")
        return end - orig_offs, [values], [0], [GGUFValueType.ARRAY, item]

    def metadata(self) -> dict[str, Any]:
        """All keys, as Python values."""
        found: dict[str, Any] = {}
        for key, field in self.fields.items():
            if field.types[:1] == [GGUFValueType.ARRAY]:
                found[key] = field.parts[field.data[0]].tolist()
            elif field.types == [GGUFValueType.STRING]:
                found[key] = text_of(field.parts[field.data[0]])
            elif not key.startswith("GGUF."):
                found[key] = field.contents()
        return found


def read_strings(buffer: memoryview, start: int, count: int) -> tuple[Any, int]:
    """`count` strings from `start` on, each a 64-bit length and UTF-8 bytes; and where they end."""
    if count * 8 > len(buffer) - start:
        raise ValueError(f"array of {count} strings goes beyond the end of the file")
    length_at = struct.Struct("<Q").unpack_from
    values = np.empty(count, dtype=object)
    for i in range(count):
        (length,) = length_at(buffer, start)
        start += 8
        values[i] = text_of(buffer[start : start + length])
        start += length
    if start > len(buffer):
        raise ValueError("a string goes beyond the end of the file")
    return values, start


def text_of(data: Any) -> str:
    """Bytes of the file as text. llama.cpp does not ask what they mean, so a description in Latin-1
    happens: what is no UTF-8 shows as U+FFFD, and most keys are never read."""
    return bytes(data).decode("utf-8", "replace")


class GgufFile:
    """An open GGUF file: its metadata, and which tensors it has. No weight is read.

    Raises `ModelError` if it is no GGUF file, of a version we cannot read, or cut short.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        check_header(path)
        try:
            # Mode "c": the map stays shared with other processes as long as nobody writes to it,
            # and torch takes only arrays that could be written.
            with np.errstate(all="ignore"):  # offsets without sense are found out soon enough
                reader = Reader(path, "c")
            self.metadata = reader.metadata()
        except UNREADABLE as error:
            raise ModelError(
                f"{path}: cut short or damaged ({one_line(error)}); fetch the file again"
            ) from error
        self._tensors = {tensor.name: tensor for tensor in reader.tensors}
        self.family = family_of(self.metadata, path)
        self.entries: dict[str, Entry] = {}
        self.strangers: list[str] = []
        for name, tensor in self._tensors.items():
            ours = our_name(name, self.family)
            if ours is not None:
                shape = tuple(int(size) for size in reversed(tensor.shape))
                only = FileTensor(name, tensor.tensor_type.name, shape, path)
                self.entries[ours] = Entry.of({"weight": only})
            elif name not in HARMLESS:
                self.strangers.append(name)

    @cached_property
    def spec(self) -> ModelSpec:
        embedding = self.entries.get("embed")
        if embedding is None:
            raise ModelError(f"{self.path}: tensor 'token_embd.weight' is missing; fetch it again")
        freqs = self._tensors.get("rope_freqs.weight")
        return spec_from_gguf(
            self.metadata,
            vocab_size=embedding.shape[0],
            tied_head="lm_head" not in self.entries,
            qkv_bias="layers.0.q_bias" in self.entries,
            o_bias="layers.0.o_bias" in self.entries,
            mlp_bias="layers.0.gate_bias" in self.entries,
            rope_factors=() if freqs is None else tuple(freqs.data.ravel().tolist()),
            path=self.path,
        )

    @property
    def weight_bytes(self) -> int:
        return sum(int(self._tensors[e.file_name].n_bytes) for e in self.entries.values())

    def array(self, name: str) -> Any:
        """The bytes of the weight that we call `name`, mapped: a numpy array as the file has it."""
        return self._tensors[self.entries[name].file_name].data


def check_header(path: Path) -> None:
    """Raise `ModelError` unless the first bytes are those of a GGUF file that we can read."""
    with path.open("rb") as file:
        head = file.read(24)
    if head[:4] != b"GGUF":
        raise ModelError(f"{path}: not a GGUF file (it starts with {head[:4]!r}, not b'GGUF')")
    if len(head) < 24:
        raise ModelError(f"{path}: cut short after {len(head)} bytes; fetch the file again")
    version = int.from_bytes(head[4:8], "little")
    if version & 0xFFFF == 0:
        raise ModelError(f"{path}: big-endian GGUF; convert it to little-endian")
    if version not in (2, 3):
        raise ModelError(
            f"{path}: GGUF version {version} is not supported, only 2 and 3; convert the model anew"
        )


LAYER_NAMES = {
    "attn_norm.weight": "attn_norm",
    "attn_q.weight": "q",
    "attn_k.weight": "k",
    "attn_v.weight": "v",
    "attn_output.weight": "o",
    "attn_q.bias": "q_bias",
    "attn_k.bias": "k_bias",
    "attn_v.bias": "v_bias",
    "attn_output.bias": "o_bias",
    "attn_q_norm.weight": "q_norm",
    "attn_k_norm.weight": "k_norm",
    "ffn_norm.weight": "mlp_norm",
    "ffn_gate.weight": "gate",
    "ffn_up.weight": "up",
    "ffn_down.weight": "down",
    "ffn_gate.bias": "gate_bias",
    "ffn_up.bias": "up_bias",
    "ffn_down.bias": "down_bias",
}
GEMMA_NAMES = LAYER_NAMES | {
    "post_attention_norm.weight": "attn_post_norm",
    "post_ffw_norm.weight": "mlp_post_norm",
}
TOP_NAMES = {
    "token_embd.weight": "embed",
    "output_norm.weight": "norm",
    "output.weight": "lm_head",
}


def our_name(theirs: str, family: str) -> str | None:
    """Our name of a tensor, None for one that we do not know."""
    layer = re.fullmatch(r"blk\.(\d+)\.(.+)", theirs)
    if layer is None:
        return TOP_NAMES.get(theirs)
    ours = (GEMMA_NAMES if family == "gemma3" else LAYER_NAMES).get(layer[2])
    return ours and f"layers.{layer[1]}.{ours}"
