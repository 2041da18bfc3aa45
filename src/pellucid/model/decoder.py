"""The decoder: every supported family, written once.

The tokens of all sequences stand one behind the other, [tokens, ...]; only attention looks at which
of them belong together. A layer is written in units that a kernel can compute at once (norm +
matrix, matrix + residual, gate·up + activation, QK-norm + rotation + KV write). Whether one does is
decided in `kernels/units.py`. The clock laps at the borders of the stages that the whole project
reports.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from pellucid.attention import AttentionBackend, AttentionShape
from pellucid.cache.pool import KVPool
from pellucid.kernels.matrix import Matrix
from pellucid.kernels.units import Norm, Stream, Units
from pellucid.model.rope import RopeTable, rope_tables
from pellucid.model.spec import ModelSpec
from pellucid.model.weights import WeightSource
from pellucid.quant.linear import head_method, make_embedding, make_linear
from pellucid.quant.method import Embedding
from pellucid.quant.weight import StoredWeight
from pellucid.stages import Clock


@dataclass(slots=True)
class Batch:
    """The tensors of one step. T tokens, R rows."""

    tokens: torch.Tensor
    """int64 [T]"""
    positions: torch.Tensor
    """int64 [T], of each token in its own sequence"""
    slots: torch.Tensor
    """int64 [T], where in the KV pool each token's keys and values go"""
    rows: Any
    """The R rows, in the form that the attention backend's `prepare` gives them"""
    keep: torch.Tensor | None = None
    """int64 [K], the tokens whose hidden states the caller wants; None: all. A prompt of 500 tokens
    needs only its last one, to choose the next token: the last layer computes keys and values for
    all 500, and attention, output and MLP for that one."""
    kept_rows: Any = None
    """The K tokens as rows of one token each, for the attention backend; None without `keep`."""


Rotation = tuple[torch.Tensor, torch.Tensor]


class Layer:
    """Attention and MLP of one layer, each with its norm and residual."""

    def __init__(self, spec: ModelSpec, index: int, load: Loader, rope: RopeTable) -> None:
        self.index = index
        self.rope = rope
        self.spec = spec
        self.units = load.units
        prefix = f"layers.{index}."
        self.attn_norm = load.norm(prefix + "attn_norm")
        self.qkv = load.linear(prefix + "q", prefix + "k", prefix + "v")
        self.qk_norms = None
        if spec.qk_norm:
            self.qk_norms = (
                load.norm(prefix + "q_norm").weight,
                load.norm(prefix + "k_norm").weight,
            )
        self.o = load.linear(prefix + "o")
        self.attn_post_norm = load.norm(prefix + "attn_post_norm") if spec.sandwich_norms else None
        self.mlp_norm = load.norm(prefix + "mlp_norm")
        self.gate_up = load.linear(prefix + "gate", prefix + "up")
        self.down = load.linear(prefix + "down")
        self.mlp_post_norm = load.norm(prefix + "mlp_post_norm") if spec.sandwich_norms else None
        self.shape = AttentionShape(spec.scale, spec.window(index), spec.attention_softcap)

    def __call__(
        self,
        stream: Stream,
        batch: Batch,
        rotation: Rotation,
        cache: KVPool,
        attention: AttentionBackend,
        clock: Clock,
        keep: torch.Tensor | None = None,
    ) -> Stream:
        """The residual [T, hidden] after this layer; with `keep`, of those tokens only."""
        spec, units = self.spec, self.units
        kv = cache.layers[self.index]
        stream, qkv = units.norm_linear(stream, self.attn_norm, self.qkv, clock)
        qkv = qkv.view(len(qkv), -1, spec.head_dim)
        clock.lap("qkv")
        q = units.ops.rotate_and_write(qkv, self.qk_norms, spec.norm_eps, rotation, kv, batch.slots)
        clock.lap("kv_write")
        rows = batch.rows
        if keep is not None:
            stream, q, rows = Stream(stream.total[keep]), q[keep], batch.kept_rows
            if not len(keep):
                return stream
        h = attention.attend(q, kv, rows, self.shape).flatten(1)
        clock.lap("attention")
        stream = self._add(stream, h, self.o, self.attn_post_norm)
        clock.lap("o_proj")
        stream, h = units.norm_gated(stream, self.mlp_norm, self.gate_up, spec.activation, clock)
        stream = self._add(stream, h, self.down, self.mlp_post_norm)
        clock.lap("mlp")
        return stream

    def _add(
        self, stream: Stream, h: torch.Tensor, matrix: Matrix, post_norm: Norm | None
    ) -> Stream:
        """The residual with matrix(h) as a branch; with Gemma, the norm of matrix(h)."""
        if post_norm is None:
            return self.units.add_linear(stream, h, matrix)
        branch = self.units.linear(h, matrix)
        return Stream(stream.total, self.units.ops.norm(branch, *post_norm))


class Loader:
    """Makes layers out of named weights: what dtype, device, methods and units they get."""

    def __init__(
        self,
        spec: ModelSpec,
        weights: WeightSource,
        dtype: torch.dtype,
        device: torch.device,
        method: str,
        units: Units,
    ) -> None:
        self.spec = spec
        self.weights = weights
        self.dtype = dtype
        self.device = device
        self.method = method
        self.head_method = head_method(method, dtype, device)
        self.units = units

    def norm(self, name: str) -> Norm:
        """A norm, its weight float32 [dim]."""
        weight = self.weights[name].dense(torch.float32).to(self.device)
        return Norm(weight + self.spec.norm_offset, self.spec.norm_eps)

    def linear(self, *names: str) -> Matrix:
        """One matrix over the input of all `names`, outputs one behind the other."""
        return self._make(names, self.method)

    def head(self, name: str) -> Matrix:
        """The matrix that ends in float32 logits."""
        return self._make([name], self.head_method)

    def embedding(self, name: str) -> Embedding:
        """Made as the head is, if that is the same weight."""
        method = self.head_method if self.spec.tied_head else self.method
        return make_embedding(
            self.weights[name], dtype=self.dtype, device=self.device, method=method
        )

    def _make(self, names: Sequence[str], method: str) -> Matrix:
        parts = [self.weights[name] for name in names]
        biases = [name + "_bias" for name in names]
        bias = None
        if any(name in self.weights for name in biases):
            bias = torch.cat([self._bias(n, p) for n, p in zip(biases, parts, strict=True)])
        return make_linear(parts, bias, dtype=self.dtype, device=self.device, method=method)

    def _bias(self, name: str, part: StoredWeight) -> torch.Tensor:
        if name not in self.weights:
            return torch.zeros(part.shape[0], dtype=self.dtype, device=self.device)
        return self.weights[name].dense(self.dtype).to(self.device)


class Decoder:
    """Embedding, layers, final norm and head of one model."""

    def __init__(self, spec: ModelSpec, load: Loader, context_length: int) -> None:
        self.spec = spec
        self.units = load.units
        self.embed = load.embedding("embed")
        ropes = rope_tables(spec, context_length, load.device)
        self.layers = [Layer(spec, index, load, rope) for index, rope in enumerate(ropes)]
        self.norm = load.norm("norm")
        self.head = load.head("embed" if spec.tied_head else "lm_head")
        # Gemma's factor is rounded to the model's dtype, as in its own code.
        self.embedding_scale = torch.tensor(spec.embedding_scale, dtype=load.dtype).item()

    def with_units(self, units: Units) -> Decoder:
        """The same weights, computed in other units."""
        other = copy.copy(self)
        other.units = units
        other.layers = [copy.copy(layer) for layer in self.layers]
        for layer in other.layers:
            layer.units = units
        return other

    @property
    def weight_bytes(self) -> int:
        """Bytes of matrices that one step reads: what a decode step cannot do without."""
        linears = [m for n in self.layers for m in (n.qkv, n.o, n.gate_up, n.down)]
        return self.head.nbytes + sum(m.nbytes for m in linears)

    def forward(
        self, batch: Batch, cache: KVPool, attention: AttentionBackend, clock: Clock
    ) -> Stream:
        """Hidden states before the final norm: [T, hidden], or [K, hidden] if the batch keeps K.

        Only the last layer can leave tokens out: every layer makes each token's keys and values
        from the token's hidden state, which the layer before must have computed.
        """
        x = self.embed(batch.tokens)
        stream = Stream(x.float(), None, x)
        if self.embedding_scale != 1.0:
            stream = Stream(stream.x * self.embedding_scale)
        ropes = dict.fromkeys(layer.rope for layer in self.layers)
        rotations = {rope: rope.at(batch.positions) for rope in ropes}
        clock.lap("embed")
        for layer in self.layers:
            keep = batch.keep if layer is self.layers[-1] else None
            stream = layer(stream, batch, rotations[layer.rope], cache, attention, clock, keep)
        return Stream(stream.total, None, stream.rounded)

    def logits(self, hidden: Stream, clock: Clock, out: torch.Tensor | None = None) -> torch.Tensor:
        """Final norm and head: float32 [rows, vocab], written to `out`, if given."""
        logits = self.units.norm_logits(hidden, self.norm, self.head, clock, out)
        if cap := self.spec.logit_softcap:
            logits.div_(cap).tanh_().mul_(cap)
        clock.lap("lm_head")
        return logits
