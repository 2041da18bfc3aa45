from __future__ import annotations
from pathlib import Path
from pellucid.errors import ModelError

def resolve(model: str, revision: str = "main", *, progress: bool = True) -> Path:
    path = Path(model).expanduser()
    if path.exists():
        return path
    raise ModelError(f"{model}: not found")
