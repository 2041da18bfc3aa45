"""One way to count."""

from __future__ import annotations

BYTES = 2  # of a number in bfloat16


def weight_bytes(config: dict) -> int:
    """Bytes of all matrices that a decode step multiplies by."""
    hidden, head = config["hidden_size"], config["head_dim"]
    queries = config["num_attention_heads"] * head
    keys = config["num_key_value_heads"] * head
    attention = hidden * (queries + 2 * keys) + queries * hidden
    mlp = 3 * hidden * config["intermediate_size"]
    layers = config["num_hidden_layers"] * (attention + mlp)
    return BYTES * (layers + config["vocab_size"] * hidden)


def kv_bytes(config: dict) -> int:
    """Bytes of the keys and values of one token, in all layers."""
    keys = config["num_key_value_heads"] * config["head_dim"]
    return BYTES * 2 * keys * config["num_hidden_layers"]


def bound_ms(config: dict, length: int, bytes_per_s: float) -> float:
    """Milliseconds that a step behind `length` tokens takes at the least."""
    return 1e3 * (weight_bytes(config) + length * kv_bytes(config)) / bytes_per_s


def attention_length(config: dict, share: float) -> float:
    """share = n·kv / (weights + n·kv), solved for n."""
    return share / (1 - share) * weight_bytes(config) / kv_bytes(config)
