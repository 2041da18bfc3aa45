"""Weights as files hold them: memory-mapped, under our names and in our row order.

The files are opened and judged elsewhere (`gguf.py`, `folder.py`), without torch. These two turn
what was found there into tensors.

Two conventions of GGUF's converter (convert_hf_to_gguf) must be undone or known:

- Architectures `llama` (also Mistral) and `smollm3`: rotary embedding there pairs neighbouring
  dimensions (0, 1), (2, 3), … while we, like everyone else, pair halves (0, d/2), (1, d/2 + 1),
  …; so within each head the rows of Q and K were reordered, and `rope_order` puts them back. Blocks
  never cross a row, so this works on quantized rows as they are. Other architectures were left
  alone.
- Gemma's norms multiply by 1 + w; GGUF stores 1 + w already, so `norm_offset` stays 0.
"""

from __future__ import annotations

from collections.abc import Collection
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from pellucid.model.folder import SafetensorsFiles, open_safetensors
from pellucid.model.gguf import GgufFile
from pellucid.quant.kinds import BLOCK_SHAPES
from pellucid.quant.weight import BlockWeight, PlainWeight, StoredWeight

PAIRS_NEIGHBOURS = ("llama", "smollm3")
"""Architectures in whose files the rows of Q and K are reordered, see above."""


class GgufWeights:
    """The `WeightSource` of a GGUF file."""

    def __init__(self, file: GgufFile) -> None:
        self._file = file

    def __getitem__(self, name: str) -> StoredWeight:
        entry = self._file.entries[name]
        data = torch.from_numpy(self._file.array(name))
        weight: StoredWeight
        if entry.kind in BLOCK_SHAPES:
            weight = BlockWeight(name, entry.kind, entry.shape, data)
        else:
            plain = data.view(torch.bfloat16) if entry.kind == "BF16" else data
            weight = PlainWeight(name, plain)
        heads = self._rotated_heads(name)
        return weight.select_rows(rope_order(entry.shape[0], heads)) if heads else weight

    def _rotated_heads(self, name: str) -> int:
        """How many heads the rows of `name` make up, if they lie in GGUF's rotary order."""
        if self._file.family not in PAIRS_NEIGHBOURS:
            return 0
        match name.rpartition(".")[2]:
            case "q" | "q_bias":
                return self._file.spec.num_heads
            case "k" | "k_bias":
                return self._file.spec.num_kv_heads
        return 0

    def __contains__(self, name: object) -> bool:
        return name in self._file.entries

    def names(self) -> Collection[str]:
        return self._file.entries.keys()


def rope_order(rows: int, heads: int) -> torch.Tensor:
    """Where in GGUF's row order each of our rows lies: int64 [rows].

    Within a head of d rows, GGUF has 0, d/2, 1, d/2 + 1, … of ours.
    """
    return torch.arange(rows).view(heads, -1, 2).transpose(1, 2).reshape(-1)


class SafetensorsWeights:
    """The `WeightSource` of the safetensors files of a folder."""

    def __init__(self, files: SafetensorsFiles) -> None:
        self._files = files

    @cached_property
    def _open(self) -> dict[Path, Any]:
        return {path: open_safetensors(path, "pt") for path in self._files.paths}

    def __getitem__(self, name: str) -> StoredWeight:
        tensors = {
            role: self._open[tensor.path].get_tensor(tensor.name)
            for role, tensor in self._files.entries[name].tensors.items()
        }
        # A format of several tensors a weight is a class beside `PlainWeight`, chosen by the roles.
        return PlainWeight(name, tensors["weight"])

    def __contains__(self, name: object) -> bool:
        return name in self._files.entries

    def names(self) -> Collection[str]:
        return self._files.entries.keys()
