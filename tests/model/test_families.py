"""Small random models of every family give the log-probabilities that transformers gives.

From a folder with config.json and safetensors, as such models come; see golden/make_families.py.
"""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import save_file

from pellucid import LLM, SamplingParams

GOLDEN = Path(__file__).parents[1] / "golden"
CASES: dict[str, dict[str, Any]] = json.loads((GOLDEN / "families.json").read_text())["cases"]


def load_families() -> Any:
    spec = importlib.util.spec_from_file_location("families", GOLDEN / "families.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


families = load_families()


def write_model(folder: Path, case: dict[str, Any]) -> Path:
    (folder / "config.json").write_text(json.dumps(case["config"]))
    save_file(
        {n: families.weight(case["family"] + n, shape) for n, shape in case["shapes"].items()},
        folder / "model.safetensors",
    )
    return folder


PLACES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]


@pytest.mark.parametrize("device", PLACES)
@pytest.mark.parametrize("attention", ["naive", "sdpa", "auto"])
@pytest.mark.parametrize("name", CASES)
def test_logprobs_are_those_of_transformers(
    name: str, attention: str, device: str, tmp_path: Path
) -> None:
    case = CASES[name]
    folder = write_model(tmp_path, case)
    llm = LLM(str(folder), dtype="float32", device=device, num_blocks=32, attention=attention)
    params = SamplingParams(max_tokens=1, prompt_logprobs=0)
    scores = llm.generate(families.PROMPT, params)[0].prompt_logprobs
    assert scores is not None
    got = [entry.logprob for entry in scores if entry is not None]
    assert got == pytest.approx(case["logprobs"], abs=2e-4)
