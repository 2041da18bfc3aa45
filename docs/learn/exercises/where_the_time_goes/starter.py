"""Say how long a decode step must take, from a model's config.json and a machine's bandwidth.

`config` is config.json as a dictionary; look at bench/models/qwen3-0.6b/config.json. Numbers are
bfloat16, 2 bytes each. Norms are too small to count.
"""

from __future__ import annotations


def weight_bytes(config: dict) -> int:
    """Bytes of all matrices that a decode step multiplies by.

    In each layer: q, k, v and o of attention, gate, up and down of the MLP. In the end the head,
    one row for each token of the vocabulary; the embedding is looked up, not multiplied by.
    """
    raise NotImplementedError("count the matrices")


def kv_bytes(config: dict) -> int:
    """Bytes of the keys and values of one token, in all layers."""
    raise NotImplementedError("count keys and values")


def bound_ms(config: dict, length: int, bytes_per_s: float) -> float:
    """Milliseconds that a step behind `length` tokens takes at the least: it must read every
    weight, and the keys and values of every token before."""
    raise NotImplementedError("divide bytes by bytes per second")


def attention_length(config: dict, share: float) -> float:
    """The length from which keys and values are this share of all bytes that a step reads."""
    raise NotImplementedError("solve for the length")
