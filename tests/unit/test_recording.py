"""A recording backend changes nothing, and hears what the wrapped one was given and gave."""

from __future__ import annotations

import torch

from pellucid.attention import AttentionRow, AttentionShape, Heads, make_attention
from pellucid.attention.recording import AttendedLayer, RecordingAttention
from pellucid.kernels.kv import KVLayer

CPU = torch.device("cpu")


def test_it_passes_on_and_tells() -> None:
    draw = torch.Generator().manual_seed(1)
    keys, values = (torch.randn(6, 4, 2, 8, generator=draw) for _ in range(2))
    q = torch.randn(5, 4, 8, generator=draw)
    rows = [AttentionRow(slice(0, 3), 3, [5]), AttentionRow(slice(3, 5), 7, [2, 0])]
    heard: list[AttendedLayer] = []
    inner = make_attention("sdpa", CPU, torch.float32, Heads(4, 2, 8, 4))
    recording = RecordingAttention(inner, heard.append)
    prepared = recording.prepare(rows, CPU)
    shapes = [AttentionShape(0.3), AttentionShape(0.3, window=2)]
    outs = [recording.attend(q, KVLayer(keys, values), prepared, shape) for shape in shapes]
    for shape, out in zip(shapes, outs, strict=True):
        plain = inner.attend(q, KVLayer(keys, values), inner.prepare(rows, CPU), shape)
        assert torch.equal(out, plain)
    assert [(each.layer, each.shape) for each in heard] == [
        (layer, shape) for layer, shape in enumerate(shapes) for _ in rows
    ]
    second = heard[1]
    assert torch.equal(second.q, q[3:]) and torch.equal(second.out, outs[0][3:])
    assert torch.equal(second.k, keys[[2, 0]].flatten(0, 1)[:7].transpose(0, 1))
    assert torch.equal(second.v, values[[2, 0]].flatten(0, 1)[:7].transpose(0, 1))
