"""Small files of a model's folder, read whole; what is amiss is told in one line, with the path."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pellucid.errors import ModelError, one_line

MAX_BYTES = 1 << 28
"""No configuration or vocabulary is larger; a file that is would take minutes to parse."""


def read_text(path: Path) -> str:
    """The file as text; `ModelError` if it cannot be read or is no UTF-8."""
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise ModelError(f"{path}: {size} bytes are too many for such a file; fetch it again")
        return path.read_text("utf-8")
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise ModelError(
            f"{path}: not UTF-8 text ({error.reason} at byte {error.start}); fetch the file again"
        ) from error


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object in the file; `ModelError` if it holds something else."""
    try:
        value = json.loads(read_text(path))
    except ModelError:
        raise
    except (ValueError, RecursionError) as error:
        raise ModelError(
            f"{path}: not valid JSON ({one_line(error)}); fetch the file again"
        ) from error
    if not isinstance(value, dict):
        raise ModelError(f"{path}: holds no JSON object; fetch the file again")
    return value


def read_optional(path: Path) -> dict[str, Any]:
    """The JSON object in an optional file; an absent file holds nothing."""
    return read_object(path) if path.exists() else {}
