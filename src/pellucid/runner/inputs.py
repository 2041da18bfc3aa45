"""From a plan to the tensors of a step, made for the occasion.

(Steps that a CUDA graph may repeat have theirs in buffers that stay: `padded.PaddedInputs`.)

A token may be `UNKNOWN` to the host, because the step that samples it has not ended. It crosses as
-1 - i, where i is its place among the tokens that the previous step sampled, and is looked up on
the device.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from pellucid.attention import AttentionBackend, AttentionRow
from pellucid.model.decoder import Batch
from pellucid.request import UNKNOWN, Row, StepPlan

Places = Mapping[int, int]
"""Sequence id → where its token stands among those that the previous step sampled."""


def make_batch(
    plan: StepPlan,
    block_size: int,
    attention: AttentionBackend,
    sampled: torch.Tensor,
    places: Places,
) -> Batch:
    """Flatten the plan's rows, and look up where each token's keys and values go.

    sampled int64 [...]: tokens of the previous step; the batch is made on its device.
    """
    tokens: list[int] = []
    rows: list[AttentionRow] = []
    tables: list[int] = []
    first_block: list[int] = []
    device = sampled.device
    for row in plan.rows:
        queries = slice(len(tokens), len(tokens) + len(row.tokens))
        blocks = row.blocks[: -(-row.end // block_size)]
        rows.append(AttentionRow(queries, row.end, blocks))
        first_block.append(len(tables))
        tables += blocks
        tokens += row.tokens
        tokens[-1] = entry(row, places)
    lengths = np.array([row.num_new for row in rows])
    begins = np.array([row.context - row.queries.stop for row in rows])
    positions = np.arange(len(tokens)) + begins.repeat(lengths)
    block, within = np.divmod(positions, block_size)
    blocks_of = np.array(tables)[np.array(first_block).repeat(lengths) + block]
    ids = np.array(tokens, dtype=np.int64)
    numbers = np.stack((ids, positions, blocks_of * block_size + within))
    given, places_of, slots = torch.from_numpy(numbers).to(device).unbind()
    if ids.min() < 0:
        given = resolve(given, sampled)
    batch = Batch(
        tokens=given, positions=places_of, slots=slots, rows=attention.prepare(rows, device)
    )
    if not any(row.scores_prompt for row in plan.rows):
        keep_lasts(batch, plan.rows, rows, attention)
    return batch


def keep_lasts(
    batch: Batch, rows: Sequence[Row], places: Sequence[AttentionRow], attention: AttentionBackend
) -> None:
    """Have the batch keep nothing but the last token of each row that samples."""
    pairs = [place for row, place in zip(rows, places, strict=True) if row.samples]
    last = [place.queries.stop - 1 for place in pairs]
    if len(last) == len(batch.tokens):
        return
    alone = [AttentionRow(slice(i, i + 1), p.context, p.blocks) for i, p in enumerate(pairs)]
    batch.keep = torch.tensor(last, dtype=torch.int64, device=batch.tokens.device)
    batch.kept_rows = attention.prepare(alone, batch.tokens.device) if alone else None


def entry(row: Row, places: Places) -> int:
    """The row's last token as it crosses to the device."""
    token = row.tokens[-1]
    return -1 - places[row.seq_id] if token == UNKNOWN else token


def resolve(tokens: torch.Tensor, sampled: torch.Tensor) -> torch.Tensor:
    """Tokens with -1 - i replaced by sampled[i]. int64 both."""
    return torch.where(tokens < 0, sampled[(-1 - tokens).clamp_min(0)], tokens)
