"""A whole engine on the GPU's kernels: in Triton's interpreter, or on a GPU.

The same requests go through an engine with everything off and through one whose layers, attention,
padded decode steps and overlap are those of a GPU; greedy tokens in float32 must be equal.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("triton")


from pellucid import LLM, SamplingParams
from pellucid.attention.flash_gpu import FlashGpuAttention
from pellucid.cache.formats import KVFormat
from pellucid.cache.pool import KVPool
from pellucid.kernels import RowKernels
from pellucid.kernels.ops import TorchOps
from pellucid.kernels.triton import gemv as gemv_kernel
from pellucid.kernels.triton.gemv import GemvTiling
from pellucid.kernels.triton.inputs import prepare
from pellucid.kernels.triton.ops import TritonOps
from pellucid.kernels.triton.units import GemvUnits
from pellucid.kernels.units import Composed, Units
from pellucid.runner.build import Parts, walk
from pellucid.runner.machine import Machine
from pellucid.runner.pipeline import OverlapPipeline
from pellucid.runner.shapes import Shape
from pellucid.runner.steps import PaddedSteps
from pellucid.sampling.inversion import Inversion
from pellucid.sampling.pivot import Pivot
from pellucid.sampling.sampler import Drawn, Method
from pellucid.stages import NullClock

PROMPTS = [[5, 9, 3, 77, 12, 4, 31], [8] * 21, [60, 2, 33]]
NUM_BLOCKS = 24

OFF: dict[str, Any] = {
    "attention": "naive",
    "fused_kernels": "off",
    "weights": "dense",
    "dtype": "float32",
    "load_format": "dummy",
    "num_blocks": NUM_BLOCKS,
}


def params() -> list[SamplingParams]:
    """Plain greedy rows, and rows that ask for everything that is done to logits."""
    return [
        SamplingParams(temperature=0, max_tokens=4, ignore_eos=True),
        SamplingParams(
            temperature=0, max_tokens=5, repetition_penalty=1.3, frequency_penalty=0.4, logprobs=3
        ),
        SamplingParams(temperature=0, max_tokens=5, min_tokens=3, stop_token_ids=(60, 2)),
    ]


def answers(llm: LLM) -> list[tuple[list[int], list[list[int]]]]:
    """Tokens, and the best tokens beside them: of all prompts together, and of one alone whose
    first chunks sample nothing."""
    biased = SamplingParams(temperature=0, logit_bias={9: 3.0}, max_tokens=2)
    outputs = [*llm.generate(PROMPTS, params()), *llm.generate([[9, 4] * 17], biased)]
    llm.engine.scheduler.check_integrity()
    return [
        (output.token_ids, [[t for t, _ in entry.top] for entry in output.logprobs or []])
        for output in outputs
    ]


@pytest.fixture(scope="module")
def folder(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small Llama with heads as wide as a GPU's matrix units want them."""
    wider = json.loads((tiny_folder / "config.json").read_text()) | {"head_dim": 16}
    folder = tmp_path_factory.mktemp("wider-llama")
    (folder / "config.json").write_text(json.dumps(wider))
    return folder


@pytest.fixture(scope="module")
def expected(folder: Path, device: str) -> Iterator[Any]:
    yield answers(LLM(str(folder), device=device, graphs="off", overlap="off", **OFF))


@pytest.fixture
def tall_tiles(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Few programs for each GEMV, of which there are hundreds here: the interpreter takes as long
    for four rows as for sixteen. The tilings of a GPU are tried by `test_triton_gemv`."""
    if device == "cpu":
        tiling = GemvTiling("fma", 16, 64, 1)
        monkeypatch.setattr(gemv_kernel, "config", lambda *_, **__: tiling)


@pytest.mark.usefixtures("tall_tiles")
@pytest.mark.parametrize(
    ("fused", "gemv", "drawing"),
    [(False, True, Pivot()), (True, False, Inversion())],
    ids=["gemv, pivot", "fused, sort"],
)
def test_the_gpu_engine_gives_the_same_tokens(
    fused: bool, gemv: bool, drawing: Method, folder: Path, device: str, expected: Any
) -> None:
    llm = LLM(str(folder), device=device, graphs="off", chunked_prefill=16, **OFF)
    ops = TritonOps() if fused else TorchOps()
    units = GemvUnits(ops, torch.float32) if gemv else Composed(ops, torch.float32)
    put_on_gpu_kernels(llm, units, drawing, device)
    assert answers(llm) == expected


def test_every_kernel_can_be_launched_before_there_is_a_request(
    folder: Path, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    llm = LLM(str(folder), device=device, graphs="off", max_seqs=3, context_length=32, **OFF)
    units = Composed(TorchOps(), torch.float32)
    parts = put_on_gpu_kernels(llm, units, Inversion(), device)
    rows, step = list[tuple[Shape, int]](), PaddedSteps.step

    def recorded(self: PaddedSteps, shape: Shape) -> Drawn:
        drawn = step(self, shape)
        rows.append((shape, len(drawn.tokens)))
        return drawn

    monkeypatch.setattr(PaddedSteps, "step", recorded)
    walk(parts)
    assert {shape.rows for shape, _ in rows if not shape.tokens} == {1, 2, 4}
    assert {shape.rows for shape, _ in rows if shape.tokens} == {1, 4}
    assert all(found == shape.rows for shape, found in rows), "a token for every row"


def put_on_gpu_kernels(llm: LLM, units: Units, drawing: Method, device: str) -> Parts:
    """Replace the engine's runner and pipeline by a GPU's, on the same weights."""
    engine = llm.engine
    ways: Any = engine.runner._ways
    spec, model = engine.checkpoint.spec, ways[-1]._parts.model
    block_size = engine.info.block_size
    model.units = units
    for layer in model.layers:
        layer.units = units
    place = torch.device(device)
    pool = KVPool(
        num_layers=spec.num_layers,
        num_blocks=NUM_BLOCKS,
        block_size=block_size,
        num_kv_heads=spec.num_kv_heads,
        head_dim=spec.head_dim,
        format=KVFormat(torch.float32),
        device=place,
    )
    for part in pool.layers:
        part.keys.zero_()
        part.values.zero_()  # as a GPU's pool begins
    group = spec.num_heads // spec.num_kv_heads
    parts = Parts(
        config=engine.config,
        spec=spec,
        machine=Machine(place, torch.float32, block_size, 16),
        context_length=engine.info.context_length,
        model=model,
        method="dense",
        attention=FlashGpuAttention(
            group, spec.num_kv_heads, spec.head_dim, block_size, torch.float32
        ),
        drawing=drawing,
        kernels=RowKernels(prepare),
    )
    engine.runner, padded = parts.build(pool, NullClock(), graphs=False)
    assert padded, "steps are padded, as on a GPU"
    engine.pipeline = OverlapPipeline()
    return parts
