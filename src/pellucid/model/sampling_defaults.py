"""How a model's authors recommend that it be sampled.

A small model asked at temperature 1 answers nonsense, and a reasoning model asked greedily repeats
itself; so authors write down what they tested with. A request that leaves these parameters out is
answered with them, as in vLLM and llama-server; one that sends a field has its own value. They come
from `generation_config.json` in a folder, from the keys `general.sampling.*` in a GGUF file, and
for the aliases that are shipped, whose files have no such keys, from the model's card (`hub.py`).

`do_sample: false` in generation_config.json means greedy decoding, whatever temperature stands
beside it; a file that does not say `do_sample` is taken by its numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

from pellucid.errors import InputError, ModelError
from pellucid.model.fields import Fields
from pellucid.request import SamplingParams

SamplingDefaults: TypeAlias = dict[str, float]
"""Fields of `SamplingParams` by name; top_k is a whole number."""

NAMES = ("temperature", "top_k", "top_p", "min_p", "repetition_penalty")
GGUF_NAMES = {
    "temperature": "temp",
    "top_k": "top_k",
    "top_p": "top_p",
    "min_p": "min_p",
    "repetition_penalty": "penalty_repeat",
}


def from_generation_config(values: Mapping[str, Any], path: Path) -> SamplingDefaults:
    """What generation_config.json recommends; `ModelError` names a value that is out of range."""
    found = recommended(Fields(values, path), {name: name for name in NAMES})
    if not Fields(values, path).flag("do_sample", True):
        penalty = found.get("repetition_penalty")
        return {"temperature": 0.0} | ({"repetition_penalty": penalty} if penalty else {})
    return found


def from_gguf(metadata: Mapping[str, Any], path: Path) -> SamplingDefaults:
    """What the metadata of a GGUF file recommends; `ModelError` as above."""
    return recommended(Fields(metadata, path, "general.sampling."), GGUF_NAMES)


def recommended(get: Fields, names: Mapping[str, str]) -> SamplingDefaults:
    """The values of the keys `names`, under our names; an absent or null key recommends nothing."""
    found: SamplingDefaults = {}
    for ours, theirs in names.items():
        value = get.get(theirs)
        if value is None:
            continue
        if ours == "top_k" and isinstance(value, float) and value.is_integer():
            value = int(value)
        try:
            SamplingParams(**{ours: value})
        except InputError as error:
            raise ModelError(
                f"{get.path}: {get.prefix}{theirs} is no sampling parameter ({error}); mend or "
                "remove it"
            ) from error
        found[ours] = value
    return found
