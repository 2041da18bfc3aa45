"""What CONTRIBUTING.md's recipes ask for, where no other test would notice that it is missing."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import pytest

from pellucid.model import spec_gguf, spec_hf
from pellucid.quant.blocks import BLOCKS
from pellucid.quant.kinds import BLOCK_SHAPES, SUPPORTED

ROOT = Path(__file__).parents[2]
KERNELS = ROOT / "src" / "pellucid" / "kernels"
FAMILIES = {*spec_hf.FAMILIES.values(), *spec_gguf.FAMILIES}


def test_every_family_has_a_golden_case() -> None:
    cases = json.loads((ROOT / "tests" / "golden" / "families.json").read_text())["cases"]
    names = {case["config"]["architectures"][0] for case in cases.values()}
    assert {spec_hf.FAMILIES[name] for name in names} >= FAMILIES, (
        "add the family to tests/golden/make_families.py, and run it"
    )


def readme_row(title: str) -> str:
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    return next(line for line in lines if line.startswith(f"| {title} |"))


def test_the_readme_names_every_family_and_kind_of_weight() -> None:
    models = readme_row("models").lower().replace(" ", "")
    assert [family for family in FAMILIES if family not in models] == []
    assert [kind for kind in SUPPORTED if kind not in readme_row("files")] == []


def test_every_block_kind_can_be_expanded() -> None:
    assert set(BLOCKS) == set(BLOCK_SHAPES)


def imported(path: Path) -> set[str]:
    """The modules, with their packages, that a file imports anything from."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


GPU_KERNELS = [
    p.stem for p in (KERNELS / "triton").glob("*.py") if "\n@triton.jit" in p.read_text()
]


@pytest.mark.parametrize("module", GPU_KERNELS)
def test_every_file_of_gpu_kernels_is_tested_against_something(module: str) -> None:
    tested: set[str] = set()
    for path in (ROOT / "tests" / "kernels").glob("test_*.py"):
        tested |= imported(path)
    assert f"pellucid.kernels.triton.{module}" in tested, (
        "compare it with its twin in kernels/reference, in tests/kernels"
    )
