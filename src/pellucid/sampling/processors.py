"""What changes logits before a token is chosen: penalties, biases, forbidden tokens, truncation.

Each processor takes the whole batch's logits [rows, vocab] float32 and touches only the rows whose
request asks for it, so that an unused parameter costs nothing and one row never changes another.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from pellucid.request import Row

NEVER = float("-inf")


def forbid_early_end(logits: torch.Tensor, rows: Sequence[Row], eos: tuple[int, ...]) -> None:
    """Before `min_tokens` new tokens, the tokens that would end the answer are impossible."""
    for index, row in enumerate(rows):
        if row.end - row.num_prompt < row.params.min_tokens:
            ends = (*row.params.stop_token_ids, *(() if row.params.ignore_eos else eos))
            logits[index, list(ends)] = NEVER


def add_bias(logits: torch.Tensor, rows: Sequence[Row]) -> None:
    """`logit_bias`: a number added to chosen tokens."""
    for index, row in enumerate(rows):
        if row.params.logit_bias:
            tokens = list(row.params.logit_bias)
            bias = torch.tensor(list(row.params.logit_bias.values()), device=logits.device)
            logits[index, tokens] += bias


def penalize(logits: torch.Tensor, rows: Sequence[Row]) -> None:
    """Repetition, presence and frequency penalties.

    Sources: repetition, Keskar et al. 2019 (CTRL), arXiv:1909.05858, over prompt and answer;
    presence and frequency as OpenAI defines them, over the answer.
    """
    index = [i for i, row in enumerate(rows) if is_penalized(row)]
    if not index:
        return
    chosen = [rows[i] for i in index]
    vocab, device = logits.shape[1], logits.device
    in_answer = _counts([row.history[row.num_prompt :] for row in chosen], vocab, device)
    seen = (
        in_answer + _counts([row.history[: row.num_prompt] for row in chosen], vocab, device)
    ) > 0
    params = [row.params for row in chosen]
    repetition = _column([p.repetition_penalty for p in params], device)
    part = logits[index]
    part = torch.where(seen, torch.where(part > 0, part / repetition, part * repetition), part)
    part -= in_answer * _column([p.frequency_penalty for p in params], device)
    part -= (in_answer > 0) * _column([p.presence_penalty for p in params], device)
    logits[index] = part


def truncate(logits: torch.Tensor, rows: Sequence[Row]) -> torch.Tensor:
    """top-k, then top-p of what is left, then min-p: tokens outside get probability 0.

    logits [rows, vocab], already divided by temperature; returns probabilities [rows, vocab]
    float32 that sum to 1 over the tokens kept. Rows that only use min-p are not sorted.
    Sources: top-p, Holtzman et al. 2019, arXiv:1904.09751; min-p, Nguyen et al. 2024,
    arXiv:2407.01082.
    """
    probs = torch.softmax(logits, dim=-1)
    ordered = [i for i, row in enumerate(rows) if row.params.top_k or row.params.top_p < 1]
    if ordered:
        probs[ordered] = _keep_head(probs[ordered], [rows[i] for i in ordered])
    scarce = [i for i, row in enumerate(rows) if row.params.min_p > 0]
    if scarce:
        part = probs[scarce]
        floor = _column([rows[i].params.min_p for i in scarce], logits.device)
        part[part < floor * part.amax(dim=-1, keepdim=True)] = 0
        probs[scarce] = part
    return probs / probs.sum(dim=-1, keepdim=True)


_NO_K = 2**30
_HEAD = 1024
"""Candidates looked at before the whole vocabulary is sorted."""


def _keep_head(probs: torch.Tensor, rows: Sequence[Row]) -> torch.Tensor:
    """Zero all but the top-k / top-p head of each row. probs [rows, vocab] sum to 1."""
    vocab = probs.shape[1]
    out = torch.zeros_like(probs)
    size = min(_HEAD, vocab)
    pending = list(range(len(rows)))
    while pending:
        part, chosen = probs[pending], [rows[i] for i in pending]
        head, tokens = torch.topk(part, size, dim=-1)
        keep, complete = _head_mask(head, chosen, whole=size == vocab)
        done = [n for n, whole in enumerate(complete) if whole]
        kept = torch.where(keep[done], head[done], 0.0)
        out[[pending[n] for n in done]] = torch.zeros_like(part[done]).scatter_(
            1, tokens[done], kept
        )
        pending = [i for n, i in enumerate(pending) if not complete[n]]
        size = vocab
    return out


def _head_mask(
    head: torch.Tensor, rows: Sequence[Row], whole: bool
) -> tuple[torch.Tensor, list[bool]]:
    """Which of each row's sorted candidates stay, and whether the candidates were enough to tell.

    top-p counts in units of what top-k left: with k given, the head's own sum is 1.
    """
    vocab = head.shape[1]
    top_k = _column([row.params.top_k or _NO_K for row in rows], head.device)
    top_p = _column([row.params.top_p for row in rows], head.device)
    rank = torch.arange(vocab, device=head.device)
    inside = rank < top_k
    kept = torch.where(inside, head, 0.0).double()
    has_k = top_k <= vocab
    total = torch.where(has_k, kept.sum(dim=-1, keepdim=True), 1.0)
    before = kept.cumsum(dim=-1) - kept
    keep = inside & ((before < top_p * total) | (rank == 0))
    unbounded = top_k == _NO_K
    enough = has_k | (unbounded & (kept.sum(dim=-1, keepdim=True) >= top_p))
    return keep, [whole or bool(flag) for flag in enough[:, 0].tolist()]


def is_penalized(row: Row) -> bool:
    """Whether the row's choice depends on the tokens before it."""
    p = row.params
    return bool(p.repetition_penalty != 1 or p.presence_penalty or p.frequency_penalty)


def _counts(tokens: list[list[int]], vocab: int, device: torch.device) -> torch.Tensor:
    """How often each token occurs in each list: int64 [lists, vocab]."""
    flat = [row * vocab + token for row, several in enumerate(tokens) for token in several]
    index = torch.tensor(flat, dtype=torch.int64, device=device)
    return torch.bincount(index, minlength=len(tokens) * vocab).view(len(tokens), vocab)


def _column(values: Sequence[float], device: torch.device) -> torch.Tensor:
    return torch.tensor(values, device=device)[:, None]
