#!/usr/bin/env python
"""What the server counts in recorded runs, for the tests of the page.

    python tests/golden/make_page.py

The page draws its roofline from `/explorer/v1/counts`; its tests have no server, and read the same
answer from frontend/tests/golden/counts-<run>.json. Only the runs that they need are written.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from pellucid.explore import runfile
from pellucid.explore.counts import counts_of

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "bench" / "results"
FOLDER = ROOT / "frontend" / "tests" / "golden"
RUNS = ("smollm2-cpu", "qwen3-0.6b-h100")
"""One of a CPU, and one of a GPU that there is a data sheet of."""


def texts() -> Mapping[Path, str]:
    """Of each file what belongs into it."""
    return {FOLDER / f"counts-{name}.json": text_of(name) for name in RUNS}


def text_of(name: str) -> str:
    """On one line: nobody reads it."""
    counts = counts_of(runfile.read(RESULTS / f"run-{name}.json"))
    return json.dumps(counts, separators=(",", ":")) + "\n"


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for path, text in texts().items():
        path.write_text(text)
