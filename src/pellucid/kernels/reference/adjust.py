"""Slow twin of kernels/triton/adjust.py, and what a CPU runs.

Everything is said in whole-batch tensor operations without asking the host anything. On a CPU,
where asking costs nothing, rows that want no change are left out.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pellucid.kernels.columns import Column

NEVER = float("-inf")


def adjust(
    logits: Tensor,
    places: Tensor,
    tokens: Tensor,
    positions: Tensor,
    settings: Tensor,
    counts: Tensor,
    edit_tokens: Tensor,
    edit_values: Tensor,
) -> None:
    """Apply each row's penalties, then its biases, then forbid what would end the answer too early.

    logits float32 [R, V], changed in place; places, tokens, positions int64 [R]: the row's place
    among the sequences, its last token, that one's position; settings int32 [NUM_COLUMNS, R].
    By place: counts int32 [S, V], in which the last token is counted; edit_tokens int32 and
    edit_values float32 [S, E].
    """
    penalize(logits, places, tokens, positions, settings, counts)
    num_bias, num_ends = settings[Column.NUM_BIAS], settings[Column.NUM_ENDS]
    # The token to come takes the next position.
    num_ends = torch.where(positions + 1 >= settings[Column.ENDS_FROM], 0, num_ends)
    num_edits = num_bias + num_ends
    width = edit_tokens.shape[1]
    if logits.device.type == "cpu":
        width = int(num_edits.max())
        if not width:
            return
    at = torch.arange(width, device=logits.device)
    values = torch.where(at < num_bias[:, None], edit_values[places, :width], NEVER)
    values = torch.where(at < num_edits[:, None], values, 0.0)
    logits.scatter_add_(1, edit_tokens[places, :width].long(), values)


def penalize(
    logits: Tensor,
    places: Tensor,
    tokens: Tensor,
    positions: Tensor,
    settings: Tensor,
    counts: Tensor,
) -> None:
    """Count each row's last token, and apply the three penalties. Arguments as in `adjust`."""
    penalized = settings[Column.PENALIZED] > 0
    is_new = penalized & (positions >= settings[Column.NUM_KNOWN])
    counts.index_put_((places, tokens.clamp_min(0)), 2 * is_new.int(), accumulate=True)
    rows: Tensor | slice = slice(None)
    if logits.device.type == "cpu":
        rows = penalized.nonzero()[:, 0]
        if not len(rows):
            return
    columns = (Column.REPETITION, Column.PRESENCE, Column.FREQUENCY)
    repetition, presence, frequency = (
        settings[column].view(torch.float32)[rows, None] for column in columns
    )
    count = counts[places[rows]]
    in_answer = count >> 1
    x = logits[rows]
    x = torch.where(count > 0, torch.where(x > 0, x / repetition, x * repetition), x)
    x = x - in_answer * frequency - (in_answer > 0) * presence
    if isinstance(rows, slice):
        x = torch.where(penalized[:, None], x, logits)
    logits[rows] = x
