"""From a plan to the tensors of a step."""

from __future__ import annotations

import torch

from pellucid.attention import AttentionBackend, AttentionRow
from pellucid.model.decoder import Batch
from pellucid.request import StepPlan


def make_batch(
    plan: StepPlan, block_size: int, attention: AttentionBackend, device: torch.device
) -> Batch:
    """Flatten the plan's rows, and look up where each token's keys and values go."""
    tokens: list[int] = []
    positions: list[int] = []
    slots: list[int] = []
    rows: list[AttentionRow] = []
    for row in plan.rows:
        begin, end = row.start, row.start + len(row.tokens)
        queries = slice(len(tokens), len(tokens) + len(row.tokens))
        blocks = row.blocks[: -(-end // block_size)]
        rows.append(AttentionRow(queries, end, blocks))
        tokens.extend(row.tokens)
        positions.extend(range(begin, end))
        slots.extend(
            row.blocks[position // block_size] * block_size + position % block_size
            for position in range(begin, end)
        )
    return Batch(
        tokens=torch.tensor(tokens, dtype=torch.int64, device=device),
        positions=torch.tensor(positions, dtype=torch.int64, device=device),
        slots=torch.tensor(slots, dtype=torch.int64, device=device),
        rows=attention.prepare(rows, device),
        ends=[row.queries.stop for row in rows],
    )
