"""Other switches for a modelled setting, and what else each of them carries along.

The engine settles its switches together (`resolve.py`): what stands at `auto` moves with the
others, and what excludes the new value must go off. So it is here, where a setting is modelled that
nobody runs.

    kv_cache on → off                overlap goes off as well: it needs stored keys and values
    attention flash → sdpa, on a GPU   graphs go off: only steps of our kernels can be recorded
    kv_cache off → on                overlap comes back where it stood before only for that reason
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from pellucid.errors import InputError
from pellucid.explore.workload import AUTOMATIC, Choices, settled
from pellucid.features import FEATURES, by_key, excluded

FEWEST_CHUNK = 64
"""A prompt in smaller pieces than these is steps by the hundred thousand: they are not tried."""


@dataclass(frozen=True, slots=True)
class Setup:
    """Switches and sizes, on a kind of machine."""

    choices: Choices
    device: Literal["cuda", "cpu"]
    packed: Mapping[str, float] = dataclasses.field(default_factory=dict)
    """`weight_bytes` and `head_bytes` of blocks as a file holds them; empty: it holds none."""

    def knows(self, key: str) -> bool:
        """Whether the cost model knows the switch, and has the sizes of both its sides."""
        return bool(self.packed) if key == "weights" else hasattr(self.choices, key)

    @property
    def switches(self) -> dict[str, str]:
        """Of every switch that is known its value, as text."""
        keys = [feature.key for feature in FEATURES if self.knows(feature.key)]
        values = {key: str(getattr(self.choices, key, "")) for key in keys}
        if "weights" in values:
            values["weights"] = "packed" if is_packed(self.choices) else "dense"
        return values

    def can(self, key: str, value: str) -> bool:
        """Whether there is such a thing on this kind of machine: `gemv` and `graphs` are a GPU's,
        `overlap` too, and blocks are multiplied as they lie on a CPU alone."""
        if value == by_key(key).off:
            return True
        if key == "chunked_prefill":
            return int(value) >= FEWEST_CHUNK
        if key in ("gemv", "graphs", "overlap"):
            return self.device == "cuda" and not excluded(key, self.switches | {key: value})
        return key != "weights" or self.device == "cpu"

    def one_away(self) -> Iterable[tuple[str, str, Setup]]:
        """Every switch, each of its other values, and the setting that makes."""
        for feature in FEATURES:
            for value in feature.choices if self.knows(feature.key) else ():
                if value != self.switches[feature.key] and self.can(feature.key, value):
                    yield feature.key, value, self.changed({feature.key: value})

    def changed(self, switches: Mapping[str, str]) -> Setup:
        """The setting with some switches at other values, and the rest as that leaves them.

        A switch that the cost model does not know makes no difference to it.
        """
        fields: dict[str, Any] = {key: "auto" for key in AUTOMATIC if self._is_auto(key)}
        for key, value in switches.items():
            if key == "weights":
                fields |= self._sizes(value)
            elif self.knows(key):
                fields[key] = _number(key, value) if key == "chunked_prefill" else value
        choices = settled(replace(self.choices, **fields), self.device)
        new = replace(self, choices=choices)
        gone = {key: by_key(key).off for key in new.switches if excluded(key, new.switches)}
        return replace(new, choices=replace(choices, **dict[str, Any](gone)))

    def _is_auto(self, key: str) -> bool:
        """Whether the switch stands where `auto` would put it."""
        loose = replace(self.choices, **dict[str, Any]({key: "auto"}))
        return bool(getattr(settled(loose, self.device), key) == getattr(self.choices, key))

    def _sizes(self, weights: str) -> dict[str, float]:
        """Bytes of an element: as the file holds them, or as they are multiplied."""
        if not self.packed:
            return {}
        dense = {"weight_bytes": self.choices.activation_bytes, "head_bytes": 0.0}
        return dict(self.packed) if weights == "packed" else dense


def is_packed(choices: Choices) -> bool:
    """Whether matrices are smaller than what they are multiplied in."""
    return choices.weight_bytes < choices.activation_bytes


def setup_of(choices: Choices, device: Literal["cuda", "cpu"]) -> Setup:
    """A setting whose packed sizes, if it has such, are its own."""
    own = {"weight_bytes": choices.weight_bytes, "head_bytes": choices.head_bytes}
    packed = own if is_packed(choices) else {}
    return Setup(settled(choices, device), device, packed)


def _number(key: str, text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise InputError(f"{key} must be a whole number, not {text!r}", param=key) from None
