"""Typed access to the settings of a foreign file; what is amiss is told with file and key."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from pellucid.errors import ModelError, one_line

MAX_LAYERS = 10_000
"""More than any model has: a damaged count must not make us list a billion tensors."""


MOST = 1e300
"""Larger numbers are damage, and integers without end do not fit a float."""
MAX_CONTEXT = 1 << 24
"""Tokens; beyond it a position is no exact float32, and has the rotation of its neighbour."""


class Fields:
    """The settings of one file. A key that is absent or null has the caller's default."""

    def __init__(self, values: Mapping[str, Any], path: Path, prefix: str = "") -> None:
        self.values = values
        self.path = path
        self.prefix = prefix

    def get(self, key: str) -> Any:
        return self.values.get(self.prefix + key)

    def integer(
        self, key: str, default: int | None = None, minimum: int = 1, maximum: int = 1 << 31
    ) -> int:
        """A whole number in this range; `ModelError` if absent and without default."""
        value = self.get(key)
        if value is None:
            value = default
        if value is None:
            raise self.error(key, "is missing")
        if isinstance(value, float) and value.is_integer():
            value = int(value)  # JSON knows no difference, and some files have 32768.0
        if isinstance(value, bool) or not isinstance(value, int):
            raise self.error(key, f"must be a whole number, not {short(value)}")
        if not minimum <= value <= maximum:
            raise self.error(key, f"must be {minimum} to {maximum}, not {value}")
        return value

    def num_layers(self, key: str) -> int:
        return self.integer(key, maximum=MAX_LAYERS)

    def context(self, key: str, default: int | None = None) -> int:
        """A length in tokens."""
        return self.integer(key, default, maximum=MAX_CONTEXT)

    def number(self, key: str, default: float | None = None, above: float = 0.0) -> float:
        """A finite number greater than `above`; `ModelError` if absent and without default."""
        value = self.get(key)
        if value is None:
            value = default
        if value is None:
            raise self.error(key, "is missing")
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise self.error(key, f"must be a number, not {short(value)}")
        if not above < value < MOST:
            raise self.error(key, f"must be a number above {above:g}, not {short(value)}")
        return float(value)

    def optional_number(self, key: str) -> float:
        """A positive number, or 0 where the key is absent, null or 0."""
        return 0.0 if self.get(key) in (None, 0) else self.number(key)

    def flag(self, key: str, default: bool) -> bool:
        value = self.get(key)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise self.error(key, f"must be true or false, not {short(value)}")
        return value

    def token_ids(self, key: str) -> tuple[int, ...]:
        """One token id or a list of them. A negative one, which many write for none, is none."""
        value = self.get(key)
        ids = value if isinstance(value, list) else [] if value is None else [value]
        for token in ids:
            if isinstance(token, bool) or not isinstance(token, int):
                raise self.error(key, f"must be a token id or a list of them, not {short(value)}")
        return tuple(token for token in ids if token >= 0)

    def name(self, key: str, default: str, known: Collection[str]) -> str:
        """One of the `known` names; `default` where the key is absent, null or empty."""
        value = self.get(key) or default
        if not isinstance(value, str) or value not in known:
            raise self.error(
                key, f"= {short(value)} is not supported; known are {', '.join(known)}"
            )
        return value

    def section(self, key: str) -> Mapping[str, Any]:
        """The keys of an object that have a value; none where `key` is absent or null."""
        value = self.get(key) or {}
        if not isinstance(value, Mapping):
            raise self.error(key, f"must be an object, not {short(value)}")
        return {name: item for name, item in value.items() if item is not None}

    def refuse(self, neutral: Mapping[str, Any], why: str) -> None:
        """Raise `ModelError` for a key of `neutral` that is set to anything but its value there."""
        for key, harmless in neutral.items():
            value = self.get(key)
            if value is not None and value != harmless:
                raise self.error(key, f"= {short(value)} is not supported: {why}")

    def check_heads(self, heads: int, kv_heads: int, head_dim: int) -> None:
        """Raise `ModelError` unless heads share keys evenly and have halves to rotate."""
        if heads % kv_heads or head_dim % 2:
            raise ModelError(
                f"{self.path}: {heads} heads of {head_dim} dimensions and {kv_heads} key-value "
                "heads do not fit together; the file is damaged: fetch it again"
            )

    def error(self, key: str, problem: str) -> ModelError:
        return ModelError(one_line(f"{self.path}: {self.prefix}{key} {problem}"))


def short(value: Any) -> str:
    """`value` as text for one line."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
