"""What the model counts for few tokens, against the engine's own layers on no device at all.

Tensors are torch's meta tensors, which have a shape and nothing in it; kernels are written down
instead of launched.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("triton")

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from pellucid.explore.work import gemv_pays, load_of
from pellucid.explore.workload import Choices, Workload
from pellucid.kernels.kv import KVLayer
from pellucid.kernels.matrix import Matrix, PlainOperand
from pellucid.kernels.triton import gemv, products, units
from pellucid.kernels.units import Norm
from pellucid.model.decoder import Decoder
from pellucid.model.spec import ModelSpec

LLAMA_8B = ModelSpec(
    family="llama", vocab_size=128_256, hidden_size=4096, intermediate_size=14_336, num_layers=2,
    num_heads=32, num_kv_heads=8, head_dim=128, context_length=64, norm_eps=1e-5, rope_theta=5e5,
)  # fmt: skip
SHAPES = {
    "llama-8b": LLAMA_8B,
    "0.6b": replace(LLAMA_8B, hidden_size=1024, intermediate_size=3072, num_heads=16),
    "small head": replace(LLAMA_8B, vocab_size=4096),
    "small o and down": replace(LLAMA_8B, hidden_size=2048, intermediate_size=8192),
    "small qkv": replace(LLAMA_8B, hidden_size=2048, num_heads=16),
    "gemma": replace(LLAMA_8B, hidden_size=640, intermediate_size=2048, sandwich_norms=True),
    "large gemma": replace(LLAMA_8B, sandwich_norms=True),
}
STAGES = ("norm", "qkv", "kv_write", "attention", "o_proj", "mlp", "lm_head")

Kernels = dict[str, Counter[str]]
"""By stage, how many of each kind."""


def meta(*shape: int, dtype: torch.dtype = torch.bfloat16) -> torch.Tensor:
    return torch.empty(shape, dtype=dtype, device="meta")


class Notes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Clock, small steps and attention, and torch's own sums and roundings: all written down."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.kernels: Kernels = defaultdict(Counter)
        self._since: list[str] = []

    def note(self, kind: str) -> None:
        self._since.append(kind)

    def lap(self, stage: str) -> None:
        self.kernels[stage].update(self._since)
        self._since.clear()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.overloadpacket in (torch.ops.aten.add, torch.ops.aten._to_copy):
            self.note("elementwise")
        return func(*args, **(kwargs or {}))

    def norm(self, x: Any, weight: Any, eps: float, dtype: Any = None) -> torch.Tensor:
        self.note("reduction")
        return meta(*x.shape, dtype=dtype or x.dtype)

    def add_norm(self, x: Any, branch: Any, weight: Any, eps: float) -> Any:
        self.note("reduction")
        return x, meta(*x.shape)

    def gated(self, gate_up: Any, activation: str) -> torch.Tensor:
        self.note("elementwise")
        return meta(len(gate_up), gate_up.shape[1] // 2)

    def rotate_and_write(
        self, qkv: Any, norms: Any, eps: Any, rotation: Any, kv: KVLayer, slots: Any
    ) -> Any:
        self.note("elementwise")
        return qkv[:, : -2 * kv.num_kv_heads]

    def attend(self, q: torch.Tensor, *others: Any) -> torch.Tensor:
        self.note("attention")
        return q

    def gemv(self, x: Any, weight: Any, **around: Any) -> torch.Tensor:
        self.note("ours")
        width = len(weight) // 2 if around.get("gated") else len(weight)
        wide = around.get("residual") is not None or "out_dtype" in around
        return meta(len(x), width, dtype=torch.float32 if wide else torch.bfloat16)


class Product(Matrix):
    """A matrix that the library multiplies, if no kernel of ours does."""

    def __init__(self, notes: Notes, num_out: int, num_in: int, dtype: torch.dtype) -> None:
        self.weight = meta(num_out, num_in)
        self._notes = notes
        self._dtype = dtype

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        self._notes.note("library")
        return meta(len(x), len(self.weight), dtype=self._dtype)

    @property
    def nbytes(self) -> int:
        return self.weight.nbytes

    @property
    def operand(self) -> PlainOperand:
        return PlainOperand(self.weight, None)


class Load:
    """`Loader`, of shapes alone."""

    dtype, device = torch.bfloat16, torch.device("meta")

    def __init__(self, spec: ModelSpec, notes: Notes) -> None:
        self.units = units.GemvUnits(notes, torch.bfloat16)
        self._spec = spec
        self._notes = notes

    def norm(self, name: str) -> Norm:
        return Norm(meta(self._spec.hidden_size, dtype=torch.float32), 1e-5)

    def linear(self, *names: str) -> Product:
        spec, wide = self._spec, torch.bfloat16
        q, kv = (n * spec.head_dim for n in (spec.num_heads, spec.num_kv_heads))
        hidden, inner = spec.hidden_size, spec.intermediate_size
        match names[0].split(".")[-1]:
            case "q":
                shape = (q + 2 * kv, hidden)
            case "o":
                shape = (hidden, q)
            case "gate":
                shape = (2 * inner, hidden)
            case "down":
                shape = (hidden, inner)
            case _:
                shape, wide = (spec.vocab_size, hidden), torch.float32
        return Product(self._notes, *shape, wide)

    def head(self, name: str) -> Product:
        return self.linear(name)

    def embedding(self, name: str) -> Any:
        return lambda ids: meta(len(ids), self._spec.hidden_size)


def launched(spec: ModelSpec, tokens: int, monkeypatch: pytest.MonkeyPatch) -> Kernels:
    """What the engine launches for a decode step."""
    notes: Any = Notes()
    monkeypatch.setattr(products, "gemv", notes.gemv)
    numbers = torch.empty(tokens, dtype=torch.int64, device="meta")
    batch: Any = SimpleNamespace(
        tokens=numbers, positions=numbers, slots=numbers, rows=None, keep=None
    )
    pages = meta(1, 16, spec.num_kv_heads, spec.head_dim)
    cache: Any = SimpleNamespace(layers=[KVLayer(pages, pages)] * spec.num_layers)
    model = Decoder(spec, Load(spec, notes), spec.context_length)  # type: ignore[arg-type]
    kernels: Kernels = notes.kernels
    with notes:
        hidden = model.forward(batch, cache, notes, notes)
        model.logits(hidden, notes)
    return kernels


def counted(spec: ModelSpec, tokens: int) -> Kernels:
    """What the cost model says of it."""
    work = Workload(phase="decode", length=64, batch=tokens)
    kernels: Kernels = defaultdict(Counter)
    for group, count in load_of(spec, work, Choices(), "cuda").groups.items():
        for one in group.works:
            ours = "ours" if one.kind == "matrix" else one.kind
            kernels[one.stage][ours] += int(count * one.launches)
            kernels[one.stage]["library"] += int(count * one.calls)
    return kernels


@pytest.mark.parametrize("tokens", [1, 2, 3, 8, 9])
@pytest.mark.parametrize("name", SHAPES)
def test_a_layer_and_the_head_are_counted_as_they_are_launched(
    name: str, tokens: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A layer is what three layers have more than two: the first one's norm, behind which nothing
    is to be added, counts as the others' do."""
    two, three = (replace(SHAPES[name], num_layers=n) for n in (2, 3))
    engine = [launched(spec, tokens, monkeypatch) for spec in (two, three)]
    model = [counted(spec, tokens) for spec in (two, three)]
    for stage in STAGES:
        layer = [b[stage] - a[stage] for a, b in (engine, model)]
        assert layer[0] == layer[1], stage
    if tokens <= gemv.MAX_TOKENS:
        assert +engine[0]["lm_head"] == +model[0]["lm_head"]


def test_gemv_pays_where_the_engine_says_so() -> None:
    for tokens in range(1, 12):
        for size in (2**10, 2**24, 2**24 + 1, 2**30):
            assert gemv_pays(tokens, size) == gemv.pays(tokens, meta(1, size))
