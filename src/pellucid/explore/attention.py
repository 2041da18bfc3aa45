"""What the heads of the running model look at: the weights of a text, by the engine's own tensors.

Problem: the kernels that serve never write the attention weights, so there is nothing to look up.
Idea: pass the text through the model once more, between two steps and over a small KV pool of its
own, with a backend that passes on to the one that serves and records (`attention/recording.py`).
From the recorded q and k the weights follow by plain softmax in float32; times v they give an
output, and its largest difference to what the serving kernel put out says how far the picture can
be trusted.

A pass for one head ends with the layer of that head. Small pictures of all heads need every layer,
so they are made when asked for: for a new text, but not for another head of the same one.

Trade-off: n tokens have n·n weights a head, which is what flash attention avoids, and here it is
paid. Hence a limit on the text. A pass costs what the prefill of the same text does, and small
pictures of all heads a third more (SmolLM2, 512 tokens, one core: 2.1 and 2.9 s of its time, where
the prefill took 2.1), so that answers being made wait hardly longer than for somebody's prompt.

Attention weights are not an explanation by themselves: they say where a head reads from, and not
what the values that it reads do to the answer.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import torch

from pellucid.attention import AttentionRow, TiledAttention
from pellucid.attention.naive import weigh
from pellucid.attention.recording import AttendedLayer, RecordingAttention
from pellucid.engine import Engine
from pellucid.errors import InputError
from pellucid.explore.flash import choose, walk
from pellucid.explore.heads import NUM_SHOWN, costs, mass, picture, rounded, thumbnails, top
from pellucid.model.decoder import Batch
from pellucid.runner.build import Parts
from pellucid.runner.memory import make_pool, naming
from pellucid.stages import NullClock

MOST_TOKENS = 512
"""Of a text; as many as a step on a CPU computes of a prompt."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionWish:
    """What to show of which text."""

    token_ids: tuple[int, ...]
    layer: int = 0
    head: int = 0
    thumbnails: bool = False
    """All heads of all layers, small."""
    tiles: bool = False
    """The course of online softmax over the tiles of this head."""
    row: int | None = None
    """The query whose course is given in full; None: the last."""
    block_m: int = 0
    """Queries of a tile; 0: as the kernel that ran has it, if that is known."""
    block_n: int = 0
    """Keys of a tile; 0: the same."""


@torch.inference_mode()
def show_attention(engine: Engine, wish: AttentionWish) -> dict[str, Any]:
    """The view as plain lists, numbers and bytes. `InputError` if the wish does not fit.

    Keys: `size`, the text's head (`layer`, `head`, `kv_head`, `shape` …), `difference`, `matrix`,
    `top`, `mass`, `first`, `costs`; if wished for, `thumbnails` and `flash`.
    """
    check(engine, wish)
    parts = engine.parts
    view: dict[str, Any] = _head(engine, wish)
    small: list[dict[str, Any]] = []

    def hear(attended: AttendedLayer) -> None:
        chosen = attended.layer == wish.layer
        if not (chosen or wish.thumbnails):
            return
        weights = weigh(attended.q.float(), attended.k.float(), attended.shape)
        if wish.thumbnails:
            small.append(thumbnails(weights))
        if chosen:
            view.update(_look(parts, wish, attended, weights))

    with naming("the attention view", "send a shorter text", "text"):
        _pass(parts, wish, RecordingAttention(parts.attention, hear))
    if wish.thumbnails:
        view["thumbnails"] = {
            "edge": small[0]["edge"],
            "heads": [layer["heads"] for layer in small],
            "first": [layer["first"] for layer in small],
        }
    return view


def check(engine: Engine, wish: AttentionWish) -> None:
    """Raise `InputError` for the first field that does not fit."""
    spec, info, num = engine.parts.spec, engine.info, len(wish.token_ids)
    if not num:
        raise InputError("the text is empty: it must have at least one token", param="text")
    most = min(MOST_TOKENS, info.context_length)
    if num > most:
        raise InputError(
            f"the text has {num:,} tokens, and this view takes {most:,} at most, because it writes "
            f"all {num:,} × {num:,} weights of a head: shorten it",
            param="text",
            code="context_length_exceeded",
        )
    for token in wish.token_ids:
        if not 0 <= token < info.vocab_size:
            raise InputError(
                f"token id {token} is not in the vocabulary of {info.vocab_size} tokens",
                param="prompt_token_ids",
            )
    row = num - 1 if wish.row is None else wish.row
    for name, value, count in (
        ("layer", wish.layer, spec.num_layers),
        ("head", wish.head, spec.num_heads),
        ("row", row, num),
    ):
        if not 0 <= value < count:
            raise InputError(f"{name} must be from 0 to {count - 1}, not {value}", param=name)
    for name, value in (("block_m", wish.block_m), ("block_n", wish.block_n)):
        if value < 0:
            raise InputError(f"{name} must be at least 1, or 0 for the kernel's own", param=name)


def _pass(parts: Parts, wish: AttentionWish, attention: RecordingAttention) -> None:
    """The text through the model's first layers, as far as they are wanted."""
    machine, num = parts.machine, len(wish.token_ids)
    model = copy.copy(parts.model)
    if not wish.thumbnails:
        model.layers = model.layers[: wish.layer + 1]
    num_blocks = -(-num // machine.block_size)
    pool = make_pool(num_blocks, parts.spec, machine)
    positions = torch.arange(num, device=machine.device)
    row = AttentionRow(slice(0, num), num, list(range(num_blocks)))
    batch = Batch(
        tokens=torch.tensor(wish.token_ids, dtype=torch.int64, device=machine.device),
        positions=positions,
        slots=positions,  # blocks 0, 1, 2 … in order
        rows=attention.prepare([row], machine.device),
    )
    model.forward(batch, pool, attention, NullClock())


def _head(engine: Engine, wish: AttentionWish) -> dict[str, Any]:
    """Which head it is, and of what model."""
    spec, info = engine.parts.spec, engine.info
    group = spec.num_heads // spec.num_kv_heads
    return {
        "num_tokens": len(wish.token_ids),
        "layer": wish.layer,
        "head": wish.head,
        "kv_head": wish.head // group,
        "group": group,
        "num_layers": spec.num_layers,
        "num_heads": spec.num_heads,
        "num_kv_heads": spec.num_kv_heads,
        "head_dim": spec.head_dim,
        "window": spec.window(wish.layer),
        "windows": [spec.window(layer) for layer in range(spec.num_layers)],
        "backend": info.switches["attention"],
        "device": info.device,
        "dtype": info.dtype,
        "costs": costs(spec, len(wish.token_ids)),
    }


def _look(
    parts: Parts, wish: AttentionWish, attended: AttendedLayer, weights: torch.Tensor
) -> dict[str, Any]:
    """All about the head that is looked at. weights [heads, n, n]"""
    group = weights.shape[0] // len(attended.v)
    values = attended.v.float().repeat_interleave(group, dim=0)
    differences = ((weights @ values).transpose(0, 1) - attended.out.float()).abs()
    own = weights[wish.head]
    found = {
        "difference": {
            "head": differences[:, wish.head].max().item(),
            "layer": differences.max().item(),
        },
        "matrix": picture(own, attended.shape.window),
        "top": top(own, NUM_SHOWN),
        "mass": mass(own),
        "first": rounded(own[:, 0]),
    }
    if wish.tiles:
        tile = None
        if isinstance(parts.attention, TiledAttention) and len(own) > 1:
            tile = parts.attention.tile_of(attended.q, attended.kv, attended.shape)
        tiling = choose(len(own), wish.block_m, wish.block_n, tile, group)
        row = len(own) - 1 if wish.row is None else wish.row
        found["flash"] = walk(attended, own, wish.head, row, tiling)
    return found
